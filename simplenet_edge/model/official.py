"""Reads the checkpoints of the official code (DonaldRR/SimpleNet): `ckpt.pth` with the two trained networks.

The official file holds `discriminator` and `pre_projection` only; the backbone's weights and the configuration come
from elsewhere. The official projection has no batch norm for any layer type, whatever its comments say.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from simplenet_edge.errors import ConfigError, WeightsError
from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["load_official_checkpoint"]


def load_official_checkpoint(model: SimpleNet, path: Path) -> None:
    """Load an official `ckpt.pth` (read with `weights_only=True`) into `model`.

    The model must follow the official code: no standardisation, no batch norm in the projection, no bias in the
    discriminator's output, no memory, half-pixel alignment, the largest patch score. Raises ConfigError where it does
    not, WeightsError where the file does not fit.
    """
    config = model.config
    batch_norm = config.projection_type > 0 and config.projection_batch_norm
    others = config.standardize or config.discriminator_bias or config.memory_size
    if others or batch_norm or config.alignment != "half-pixel" or config.score_top_k != 1:
        raise ConfigError(
            "an official checkpoint needs standardize=False, projection_batch_norm=False, discriminator_bias=False, "
            "memory_size=0, alignment='half-pixel' and score_top_k=1"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such checkpoint; check the path") from None
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a checkpoint that loads with weights_only=True ({reason})") from error
    networks: dict[str, nn.Module] = {"discriminator": model.discriminator}
    if config.projection_layers > 0:
        networks["pre_projection"] = model.pre_projection
    if not isinstance(checkpoint, dict) or set(networks) - set(checkpoint):
        found = ", ".join(checkpoint) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise WeightsError(f"{path}: expected {' and '.join(networks)}, found {found}; is it a SimpleNet ckpt.pth?")
    for name, network in networks.items():
        try:
            network.load_state_dict(checkpoint[name])
        except (RuntimeError, TypeError) as error:
            raise WeightsError(f"{path}: {name} does not fit the configuration: {error}") from error
