"""Where and how an archive is scored. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from simplenet_edge.errors import ConfigError

__all__ = ["LOCAL", "ScoreOptions"]

LOCAL = "local"
"""The address of a Ray cluster that is started here and stopped again."""


@dataclass(frozen=True)
class ScoreOptions:
    """Where and how an archive is scored. Raises ConfigError."""

    ray: str = LOCAL  # the address of a Ray cluster; local: this machine, for as long as it takes
    engine: str = "auto"
    precision: str = "fp32"
    workers: int | None = None  # processes with an engine each; None: one for each processor, or each GPU
    threads: int | None = None  # of an engine on a CPU; None: 1
    batch: int = 8  # frames of one call of the engine

    def __post_init__(self) -> None:
        for name in ("workers", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
