"""Every row of the table fits its backbone: the layers exist, on grids of 1/8 and 1/16 of the input."""

from __future__ import annotations

import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.defaults import BACKBONE_DEFAULTS, DEFAULT_BACKBONE, backbone_defaults


@pytest.mark.parametrize("name", BACKBONE_DEFAULTS)
def test_layers_are_feature_maps_of_an_eighth_and_a_sixteenth(name: str) -> None:
    row = BACKBONE_DEFAULTS[name]
    shapes = Backbone(name, row.layers).feature_shapes((64, 64))
    assert [shape[1:] for shape in shapes] == [(8, 8), *[(4, 4)] * (len(shapes) - 1)]
    assert row.embed_dim <= sum(shape[0] for shape in shapes)


def test_the_default_backbone_is_in_the_table() -> None:
    assert DEFAULT_BACKBONE in BACKBONE_DEFAULTS


def test_another_backbone_needs_its_layers_named() -> None:
    with pytest.raises(ConfigError, match="--layers"):
        backbone_defaults("densenet121", None)
    assert backbone_defaults("densenet121", ("features.denseblock2",)).layers == ("features.denseblock2",)
