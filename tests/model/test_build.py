from __future__ import annotations

from typing import Any

import pytest

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.spec import InputSpec


@pytest.mark.parametrize(
    ("choices", "spec"),
    [
        ({}, InputSpec(64, 96)),
        ({"resize": "stretch"}, InputSpec(64, 96)),
        ({"resize": "letterbox"}, InputSpec(64, 96, "letterbox")),
        ({"resize_to": 100}, InputSpec(64, 96, "center-crop", 100)),
        ({"resize": "center-crop", "resize_to": 100}, InputSpec(64, 96, "center-crop", 100)),
        ({"resize": "center-crop"}, InputSpec(64, 96, "center-crop", 110)),
        ({"resize": "center-crop", "size_hw": (288, 288)}, InputSpec(288, 288, "center-crop", 329)),  # the paper's
    ],
)
def test_how_a_camera_frame_is_resized(choices: dict[str, Any], spec: InputSpec) -> None:
    options: dict[str, Any] = {"random_weights": True, "size_hw": (64, 96), **choices}
    assert build_simplenet("mobilenet_v2", **options).input_spec == spec


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_size_before_the_cut_belongs_to_a_cut(resize: Any) -> None:
    with pytest.raises(ConfigError, match="goes with resize='center-crop' only"):
        build_simplenet("mobilenet_v2", random_weights=True, size_hw=(64, 96), resize=resize, resize_to=100)
