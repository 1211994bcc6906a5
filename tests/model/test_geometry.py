from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.defaults import BACKBONE_DEFAULTS
from simplenet_edge.model.geometry import Cells, Grid, interpolation_matrix, operator_mode
from simplenet_edge.model.patches import OperatorResize, grid_resize

pytestmark = pytest.mark.slow

HALF_PIXEL = ("convnext_tiny", "vgg11")
OTHERS = {
    "vgg11": ("features.10",),
    "densenet121": ("features.denseblock2",),
    "shufflenet_v2_x0_5": ("stage2", "stage3"),
}

POINTWISE = (
    *("ReLU", "ReLU6", "SiLU", "GELU", "Hardswish"),
    *("BatchNorm2d", "LayerNorm", "LayerNorm2d", "SqueezeExcitation"),
)
LIGHT = [name for name in BACKBONE_DEFAULTS if "resnet50" not in name]


@pytest.mark.parametrize("name", [*LIGHT, *OTHERS])
def test_fields_are_where_the_gradient_is(name: str) -> None:
    """With all weights one and nothing but windows, what a cell looks at is symmetric around its middle."""
    layers = OTHERS.get(name) or BACKBONE_DEFAULTS[name].layers
    if name == "convnext_tiny":
        layers = layers[:1]  # the second sees more than the image
    backbone = Backbone(name, layers)
    for path, module in list(backbone.body.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.MaxPool2d):
            pool = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            backbone.body.set_submodule(path, pool)
        elif type(module).__name__ in POINTWISE:
            backbone.body.set_submodule(path, nn.Identity())
    image = torch.ones(1, 3, 576, 576, dtype=torch.float64, requires_grad=True)
    for layer, feature in zip(layers, backbone.double()(image), strict=True):
        row, column = feature.shape[2] // 2, feature.shape[3] // 2 - 1
        (gradient,) = torch.autograd.grad(feature[0, :, row, column].sum(), image, retain_graph=True)
        seen = gradient[0].sum(0)
        pixels = torch.arange(576, dtype=torch.float64)
        middle = [float((seen.sum(1 - axis) * pixels).sum() / seen.sum()) for axis in (0, 1)]
        cells = backbone.fields[layer]
        assert middle == pytest.approx([cells.first + cells.stride * i for i in (row, column)], abs=0.02), layer


@pytest.mark.parametrize("name", [*BACKBONE_DEFAULTS, "vgg11"])
def test_only_windows_that_do_not_overlap_are_spread_evenly(name: str) -> None:
    model = build_simplenet(name, layers=OTHERS.get(name), random_weights=True, size_hw=(128, 160))
    official = [Grid.spread_evenly(grid.hw, (128, 160)) for grid in model.grids]
    assert (list(model.grids) == official) == (name in HALF_PIXEL)


def test_the_papers_alignment_is_half_pixel() -> None:
    model = build_simplenet("resnet18", random_weights=True, variant="paper", size_hw=(128, 160))
    assert model.config.alignment == "half-pixel"
    assert list(model.grids) == [Grid.spread_evenly((16, 20), (128, 160)), Grid.spread_evenly((8, 10), (128, 160))]


def test_an_even_light_moves_with_its_cell() -> None:
    """A map's largest value lies on the pixel in the middle of the receptive field of the patch that gave it."""
    model = build_simplenet("resnet18", random_weights=True, size_hw=(128, 160))
    scores = torch.zeros(1, *model.grid_hw)
    scores[0, 7, 12] = 1
    found = model.anomaly_map(scores)[0]
    assert np.unravel_index(int(found.argmax()), found.shape) == (56, 96)


@pytest.mark.parametrize(("size", "new"), [(18, 36), (5, 12), (9, 4), (7, 7), (1, 3)])
def test_between_even_grids_it_is_interpolate(size: int, new: int) -> None:
    signal = torch.randn(1, 3, size, dtype=torch.float64)
    expected = F.interpolate(signal, size=new, mode="linear", align_corners=False)
    old_grid, new_grid = (Grid.spread_evenly((count, 1), (72, 1)) for count in (size, new))
    matrix = interpolation_matrix(old_grid.rows, size, new_grid.rows, new)
    assert torch.allclose(signal @ matrix.T, expected, atol=1e-12)


@given(
    first=st.floats(-20, 20),
    stride=st.floats(0.5, 20),
    count=st.integers(1, 12),
    new_first=st.floats(-20, 20),
    new_stride=st.floats(0.5, 20),
    new_count=st.integers(1, 30),
)
def test_interpolation_is_numpys(
    first: float, stride: float, count: int, new_first: float, new_stride: float, new_count: int
) -> None:
    matrix = interpolation_matrix(Cells(first, stride), count, Cells(new_first, new_stride), new_count)
    signal = np.random.default_rng(count).standard_normal(count)
    places = new_first + new_stride * np.arange(new_count)
    expected = np.interp(places, first + stride * np.arange(count), signal)
    assert np.allclose(matrix.numpy() @ signal, expected, atol=1e-9)
    assert np.allclose(matrix.sum(dim=1), 1)


@settings(max_examples=15, deadline=None)
@given(hw=st.tuples(st.integers(1, 6), st.integers(1, 6)), factors=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric"])
def test_the_operator_is_the_matrices(mode: str, hw: tuple[int, int], factors: tuple[int, int]) -> None:
    new_hw = (hw[0] * factors[0], hw[1] * factors[1])
    size_hw = (new_hw[0] * 8, new_hw[1] * 8)
    if mode == "half_pixel":
        old, new = (Grid.spread_evenly(each, size_hw) for each in (hw, new_hw))
    else:
        old = Grid(hw, Cells(0.5, 8.0 * factors[0]), Cells(0.5, 8.0 * factors[1]))
        new = Grid(new_hw, Cells(0.5, 8.0), Cells(0.5, 8.0))
    if factors != (1, 1):
        assert operator_mode(old, new) == mode
    module = OperatorResize(old, new, mode)
    x = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    node = onnx.helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode=mode
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [value("x", onnx.TensorProto.FLOAT, x.shape)],
        [value("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([1, 1, *module.scales], np.float32), "scales")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.allclose(session.run(None, {"x": x.numpy()})[0], module(x).numpy(), atol=1e-5)


def test_other_factors_and_shifts_are_matrices() -> None:
    old = Grid((4, 4), Cells(0.0, 16.0), Cells(0.0, 16.0))
    assert operator_mode(old, Grid((9, 9), Cells(0.0, 64 / 9), Cells(0.0, 64 / 9))) is None
    assert operator_mode(old, Grid((8, 8), Cells(1.0, 8.0), Cells(1.0, 8.0))) is None
    assert isinstance(grid_resize(old, old), nn.Identity)
