"""What suits each backbone: one table, used wherever an option is left out.

Layers are the middle of the network (the paper's layer2 and layer3: 1/8 and 1/16 of the input): deep enough for
meaning, fine enough to find a scratch. `embed_dim` is about the sum of their channels. The discriminator is twice
as wide as its input, the ResNet50s' as wide as the paper's. The memory measures on about a third of the dimensions, at
most 128. Measured is MobileNetV2 (`benchmarks/recipe.py`); the others follow the same rule.
"""

from __future__ import annotations

from typing import NamedTuple

from simplenet_edge.errors import ConfigError

__all__ = [
    "BACKBONE_DEFAULTS",
    "DEFAULT_BACKBONE",
    "DEFAULT_MEMORY",
    "PAPER_BACKBONE",
    "BackboneDefaults",
    "backbone_defaults",
]

DEFAULT_BACKBONE = "efficientnet_lite0"
PAPER_BACKBONE = "wide_resnet50_2"
DEFAULT_MEMORY = 4000
"""Remembered patches. MobileNetV2 at 256x256 pays 65 million multiply-adds for them, WideResNet50-2 at 288 166."""


class BackboneDefaults(NamedTuple):
    """Layers by module path; sizes of embedding, discriminator and memory's components; the input side in pixels, where
    the images don't say it; where the ImageNet weights come from, and their licence.
    """

    layers: tuple[str, ...]
    embed_dim: int
    hidden: int
    memory_dim: int
    input_side: int
    weights: str = "downloaded, BSD-3-Clause"


_PACKAGED = "installed, Apache-2.0"
BACKBONE_DEFAULTS: dict[str, BackboneDefaults] = {
    "efficientnet_lite0": BackboneDefaults(("blocks.2", "blocks.3", "blocks.4"), 232, 464, 64, 256, _PACKAGED),
    "efficientnet_lite1": BackboneDefaults(("blocks.2", "blocks.3", "blocks.4"), 232, 464, 64, 256, _PACKAGED),
    "efficientnet_lite2": BackboneDefaults(("blocks.2", "blocks.3", "blocks.4"), 256, 512, 64, 256, _PACKAGED),
    "wide_resnet50_2": BackboneDefaults(("layer2", "layer3"), 1536, 1024, 128, 288),  # the paper's
    "resnet50": BackboneDefaults(("layer2", "layer3"), 1024, 1024, 128, 256),
    "resnet18": BackboneDefaults(("layer2", "layer3"), 384, 768, 128, 256),
    "mobilenet_v2": BackboneDefaults(("features.6", "features.10", "features.13"), 192, 384, 64, 256),
    "mobilenet_v3_large": BackboneDefaults(("features.6", "features.10", "features.12"), 232, 464, 64, 256),
    "efficientnet_b0": BackboneDefaults(("features.3", "features.4", "features.5"), 232, 464, 64, 256),
    "convnext_tiny": BackboneDefaults(("features.3", "features.5"), 576, 1152, 128, 256),
}


def backbone_defaults(backbone: str, layers: tuple[str, ...] | None) -> BackboneDefaults:
    """The defaults of a backbone. One outside the table needs its layers named; ConfigError says so."""
    if backbone in BACKBONE_DEFAULTS:
        return BACKBONE_DEFAULTS[backbone]
    if layers is None:
        known = ", ".join(BACKBONE_DEFAULTS)
        raise ConfigError(f"no default layers are known for {backbone!r} (known: {known}); name them with --layers")
    return BackboneDefaults(layers, 512, 1024, 128, 256)
