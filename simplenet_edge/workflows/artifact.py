"""A path that may name a training run or a bundle: which it is, and what goes with it."""

from __future__ import annotations

from pathlib import Path

from simplenet_edge.bundle import MANIFEST_NAME
from simplenet_edge.errors import ConfigError

__all__ = ["folder_beside", "is_bundle"]


def is_bundle(model: Path, engine: str, precision: str) -> bool:
    """Whether `model` is a bundle and not a run. Raises ConfigError where it is a run, which takes no such options."""
    if model.suffix == ".zip" or (model / MANIFEST_NAME).is_file():
        return True
    if engine != "auto" or precision != "fp32":
        raise ConfigError("--engine and --precision go with a bundle; a training run is measured in PyTorch")
    return False


def folder_beside(bundle: Path, name: str) -> Path:
    """Where results of a bundle go: a folder beside it, called after both."""
    return bundle.resolve().with_name(f"{bundle.resolve().stem}-{name}")
