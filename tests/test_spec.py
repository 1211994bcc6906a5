from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import InputSpec, OperatingPoint, ScoreStatistics, SimpleNetConfig, from_dict, to_dict

LAYERS = ("layer2", "layer3")
sizes = st.integers(8, 8192)
finite = st.floats(allow_nan=False, allow_infinity=False)
rgb = st.tuples(finite, finite, finite)
positive_rgb = st.tuples(*[st.floats(1e-3, 10)] * 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 7, "width": 64}, "within 8..8192"),
        ({"height": 64, "width": 8193}, "within 8..8192"),
        ({"height": 64, "width": 64, "resize": "fit"}, "one of stretch, letterbox, center-crop, not 'fit'"),
        ({"height": 64, "width": 64, "resize": "center-crop"}, "needs resize_to"),
        ({"height": 64, "width": 96, "resize": "center-crop", "resize_to": 95}, "at least 96; it is 95"),
        ({"height": 64, "width": 64, "resize_to": 80}, "goes with resize='center-crop' only"),
        ({"height": 64, "width": 64, "resize": "letterbox", "resize_to": 80}, "goes with resize='center-crop' only"),
        ({"height": 64, "width": 64, "std": (0.2, 0.0, 0.2)}, "std must be positive"),
    ],
)
def test_an_input_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**options)


def test_size_is_height_then_width() -> None:
    assert InputSpec(64, 96).size_hw == (64, 96)
    assert InputSpec(288, 288, "center-crop", 329).size_hw == (288, 288)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": ("layer2", "layer2")}, "named twice"),
        ({"patch_size": 4}, "odd and positive"),
        ({"patch_size": -1}, "odd and positive"),
        ({"pretrain_embed_dim": 0}, "pretrain_embed_dim must be at least 1"),
        ({"target_embed_dim": 0}, "target_embed_dim must be at least 1"),
        ({"patch_stride": 0}, "patch_stride must be at least 1"),
        ({"discriminator_layers": 0}, "discriminator_layers must be at least 1"),
        ({"discriminator_hidden": 0}, "discriminator_hidden must be at least 1"),
        ({"projection_layers": -1}, "projection_layers must be at least 0"),
        ({"projection_type": 3}, "projection_type must be 0, 1 or 2"),
        ({"smoothing_sigma": -0.1}, "smoothing_sigma must be at least 0"),
        ({"smoothing_sigma": math.nan}, "smoothing_sigma must be at least 0"),
        ({"smoothing_sigma": math.inf}, "smoothing_sigma must be at least 0"),
    ],
)
def test_a_model_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimpleNetConfig(**{"backbone": "wide_resnet50_2", "layers": LAYERS, **options})


@pytest.mark.parametrize("options", [{"projection_layers": 0}, {"discriminator_hidden": None}, {"smoothing_sigma": 0}])
def test_a_model_may_leave_parts_out(options: dict[str, Any]) -> None:
    assert SimpleNetConfig("resnet18", LAYERS, **options).layers == LAYERS


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_pixel_threshold_that_would_mark_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="pixel threshold must be a finite number"):
        OperatingPoint(0.5, alpha=0.05, n_calibration=40, guaranteed=True, pixel_threshold=threshold)


def test_an_operating_point_written_without_a_pixel_threshold_is_still_read() -> None:
    values = {"threshold": 0.5, "alpha": 0.05, "n_calibration": 40, "guaranteed": True}
    assert from_dict(OperatingPoint, values).pixel_threshold is None


def test_an_operating_point_of_independent_images_is_read_by_versions_without_parts() -> None:
    assert "n_parts" not in to_dict(OperatingPoint(0.5, alpha=0.05, n_calibration=40, guaranteed=True))


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_that_would_judge_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="finite number"):
        OperatingPoint(threshold, alpha=0.05, n_calibration=40, guaranteed=True)


configurations = st.one_of(
    st.builds(InputSpec, height=sizes, width=sizes, mean=rgb, std=positive_rgb),
    st.builds(
        InputSpec, st.integers(8, 300), st.integers(8, 300), st.just("center-crop"), resize_to=st.integers(300, 999)
    ),
    st.builds(
        SimpleNetConfig,
        backbone=st.text(),
        layers=st.lists(st.text(), min_size=1, unique=True).map(tuple),
        patch_size=st.integers(0, 9).map(lambda half: 2 * half + 1),
        discriminator_hidden=st.none() | st.integers(1, 4096),
        smoothing_sigma=st.floats(0, 100),
    ),
    st.builds(
        OperatingPoint,
        finite,
        st.floats(0, 1),
        st.integers(1),
        st.booleans(),
        pixel_threshold=st.none() | finite,
        n_parts=st.none() | st.integers(1),
    ),
    st.builds(ScoreStatistics, st.integers(1), finite, finite, finite, finite, finite),
)


@given(configurations)
def test_any_configuration_survives_json(config: Any) -> None:
    text = json.dumps(to_dict(config), allow_nan=False)
    assert from_dict(type(config), json.loads(text)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 64, "width": 64, "colour": "rgb"}, "unknown colour; known are bit_depth, height, mean"),
        ({"height": 64}, "width"),
        ({"height": "64", "width": 64}, "InputSpec"),
        ({"height": 64, "width": 64, "std": ["a", "b", "c"]}, "InputSpec"),
        ([64, 64], "expected an object, found list"),
        (None, "expected an object, found NoneType"),
    ],
)
def test_values_that_are_no_configuration_are_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(InputSpec, values)


def test_a_full_bit_depth_is_not_written_so_that_older_versions_read_the_rest() -> None:
    assert "bit_depth" not in to_dict(InputSpec(64, 96))
    deep = InputSpec(64, 96, bit_depth=12)
    assert from_dict(InputSpec, to_dict(deep)) == deep
    assert from_dict(InputSpec, to_dict(InputSpec(64, 96))).bit_depth == 16


@pytest.mark.parametrize("bit_depth", [0, 7, 17, 12.5])
def test_a_bit_depth_that_no_image_has_is_refused(bit_depth: Any) -> None:
    with pytest.raises(ConfigError, match="bit_depth"):
        InputSpec(64, 96, bit_depth=bit_depth)
