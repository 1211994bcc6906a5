from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.backbone import Backbone
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.int8 import int8_model
from simplenet_edge.model.quantization import INT8_MAX, Quantizer, int8_structure, is_int8, quantized, rounded_weight
from simplenet_edge.model.simplenet import SimpleNet


class Block(nn.Module):
    """Expansion, depthwise convolution and projection, with channels of very different size."""

    def __init__(self, seed: int, channels: int = 12) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, channels, 1)
        self.act1 = nn.ReLU6()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.act2 = nn.ReLU6()
        self.project = nn.Conv2d(channels, 5, 1, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for conv in (self.expand, self.depthwise, self.project):
                conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
            sizes = torch.logspace(-2, 0.5, channels)
            self.expand.weight.mul_(sizes.view(-1, 1, 1, 1))
            self.depthwise.weight.div_(sizes.view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.act2(self.depthwise(self.act1(self.expand(x)))))
        return out


def traced(module: nn.Module) -> GraphModule:
    return symbolic_trace(module.eval().requires_grad_(False))


def images(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def without_rounding(body: GraphModule) -> GraphModule:
    for module in body.modules():
        if isinstance(module, Quantizer):
            module.forward = lambda x: x  # type: ignore[method-assign]
    return body


@given(seed=st.integers(0, 2**16))
def test_centring_and_equalisation_change_nothing_but_rounding(seed: int) -> None:
    body = traced(Block(seed))
    exact = body(images())
    found = without_rounding(quantized(body, lambda: [images()]))(images())
    # what is left is the rounding of the weights, whose mean the biases take back
    assert (found - exact).mean((0, 2, 3)).abs().max() < 0.05 * exact.std()
    assert (found - exact).abs().mean() < 0.05 * exact.std()


def test_small_channels_and_means_survive() -> None:
    body = traced(Block(1))
    exact, found = body(images(1)), quantized(body, lambda: [images()])(images(1))
    error = (found - exact).pow(2).mean().sqrt() / exact.std()
    naive = Block(1).eval()
    for conv, top in ((naive.expand, 3.0), (naive.depthwise, 6.0), (naive.project, 6.0)):
        conv.weight.data = rounded_weight(conv.weight)
        conv.register_forward_pre_hook(lambda _, x, top=top: ((x[0] / top * INT8_MAX).round() * top / INT8_MAX,))
    plain = (naive(images(1)) - exact).pow(2).mean().sqrt() / exact.std()
    assert error < 0.5 * plain


@given(st.integers(0, 2**16), st.integers(1, 8), st.integers(1, 6))
def test_weights_are_integers_times_a_scale_a_channel(seed: int, out: int, into: int) -> None:
    weight = torch.randn(out, into, 3, 3, generator=torch.Generator().manual_seed(seed))
    weight[0] = 0  # a dead channel
    rounded = rounded_weight(weight)
    top = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9)
    steps = rounded / top * INT8_MAX
    assert (steps - steps.round()).abs().max() < 1e-3
    assert steps.abs().max() <= INT8_MAX + 1e-3
    assert ((rounded - weight).abs() <= top / INT8_MAX * 0.501).all()


def test_one_quantiser_for_all_that_read_a_tensor_and_all_convolutions_read_one() -> None:
    body = quantized(Backbone("resnet18", ("layer2",)).body, lambda: [images()])
    modules = dict(body.named_modules())
    readers = [node for node in body.graph.nodes if isinstance(modules.get(str(node.target)), nn.Conv2d)]
    sources = [node.args[0] for node in readers]
    assert all(isinstance(modules[str(source.target)], Quantizer) for source in sources)
    assert len(set(sources)) < len(sources)  # the shortcut of layer2 reads what its first convolution does
    assert all(float(module.scale) > 0 for module in modules.values() if isinstance(module, Quantizer))
    assert is_int8(body)
    assert not is_int8(Backbone("resnet18", ("layer2",)).body)


def test_the_structure_takes_the_state() -> None:
    float_body = Backbone("efficientnet_lite0", ("blocks.2",)).body
    body = quantized(float_body, lambda: [images()])
    other = int8_structure(Backbone("efficientnet_lite0", ("blocks.2",), seed=1).body)
    other.load_state_dict(body.state_dict())
    assert torch.equal(other(images())["blocks.2"], body(images())["blocks.2"])


def test_a_saved_model_comes_back_in_int8(tmp_path: Path, rng: np.random.Generator) -> None:
    model = build_simplenet("efficientnet_lite0", size_hw=(64, 96), memory_size=0)
    frames = rng.integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    exact = model.predict(frames)
    model = int8_model(model, lambda: [model.normalize(torch.from_numpy(frames))]).eval()
    model.save(tmp_path)
    found = SimpleNet.load(tmp_path)
    assert is_int8(found.backbone.body)
    np.testing.assert_array_equal(found.predict(frames).map, model.predict(frames).map)
    assert not np.array_equal(found.predict(frames).map, exact.map)


def test_batches_are_read_anew_and_the_source_stays() -> None:
    body, calls = traced(Block(3)), []

    def batches() -> Iterator[Tensor]:
        calls.append(1)
        yield images()

    before = {name: value.clone() for name, value in body.state_dict().items()}
    quantized(body, batches)
    assert len(calls) > 1
    assert all(torch.equal(before[name], value) for name, value in body.state_dict().items())


def test_a_backbone_without_convolutions_is_refused() -> None:
    with pytest.raises(ConfigError, match="no convolution to quantise; export it as fp16"):
        quantized(traced(nn.Sequential(nn.Linear(3, 3))), lambda: [])
