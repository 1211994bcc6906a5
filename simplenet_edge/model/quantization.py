"""A backbone whose convolutions compute in INT8, as a module: what a device computes, for the head to learn on.

Signed, symmetric, one scale a channel for weights and one a tensor for activations, in front of convolutions alone:
the form that TensorRT, OpenVINO and ONNX Runtime all take. Batch norms are folded first. Two changes that float
arithmetic would not see use the 256 values better:

    centring       `clip(x, 0, 6) - 3 = clip(x - 3, -3, 3)` takes the same values at either side of zero. The shift goes
                   into the bias before, and `W a + b = W (a - 3) + (b + 3 sum W)` takes it back behind; only for
                   convolutions that don't pad, which would read zeros where -3 is meant.
    equalisation   a channel that stays small is enlarged in front of a depthwise convolution, which has a scale for it
                   of its own (Nagel et al. 2019, section 4.1).

Rounding shifts the mean of a channel; each bias takes that back (the same, section 4.2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from simplenet_edge.errors import ConfigError
from simplenet_edge.model.batch_norms import fold_batch_norms

__all__ = [
    "INT8_MAX",
    "ROOM",
    "Quantizer",
    "int8_structure",
    "is_int8",
    "quantized",
    "rounded",
    "rounded_weight",
    "step_to",
    "weight_scales",
]

INT8_MAX = 127
_INT8_MIN = -128
_RELU6 = 6.0
ROOM = 1.25
"""Times the largest value of good parts for which there is room: other parts, and defects, have larger ones."""
_MOST = 64.0  # times that a channel is enlarged


class Quantizer(nn.Module):
    """Rounds a tensor to one of 256 multiples of `scale`; what lies beyond them is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int8), persistent=False)
        self.scale: Tensor
        self.zero_point: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The rounded values, shape kept."""
        if torch.onnx.is_in_onnx_export():
            pair = ("QuantizeLinear", torch.int8), ("DequantizeLinear", torch.float32)
            for operator, kind in pair:
                x = torch.onnx.ops.symbolic(operator, (x, self.scale, self.zero_point), dtype=kind, shape=x.shape)
            return x
        return rounded(x, self.scale)


class _Centred(nn.Module):
    """A ReLU6 moved by half of its range: -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-_RELU6 / 2, _RELU6 / 2)


def int8_structure(body: GraphModule) -> GraphModule:
    """A copy with the modules of a quantised body, for its state to be loaded into; its own weights mean nothing.

    Raises ConfigError for a backbone without a convolution.
    """
    structure = _with_biases(body)
    _centre(structure)
    _insert_quantizers(structure)
    return structure


@torch.no_grad()
def quantized(body: GraphModule, batches: Callable[[], Iterable[Tensor]]) -> GraphModule:
    """`body`, a feature extractor, with its convolutions in INT8; the original stays as it is.

    `batches` gives the normalised images `(B, 3, H, W)` of good parts that scales and biases come from, anew each time
    it is called. Raises ConfigError for a backbone without a convolution.
    """
    exact = _with_biases(body)
    _equalize(exact, batches)
    _centre(exact)
    names = [str(node.target) for node in _convolutions(exact)]
    largest = _largest(exact, names, batches, lambda inputs, _: inputs.abs().amax())
    scales = {name: step_to(top) for name, top in largest.items()}
    _round_weights(exact, scales, batches)
    for node, quantizer in _insert_quantizers(exact):
        quantizer.scale.copy_(scales[str(node.target)])
    return exact


def is_int8(body: GraphModule) -> bool:
    """Whether `quantized` made it."""
    return any(isinstance(module, Quantizer) for module in body.modules())


def _with_biases(body: GraphModule) -> GraphModule:
    """A copy with its batch norms folded and a bias in every convolution."""
    copied = fold_batch_norms(body)
    convolutions = _convolutions(copied)
    if not convolutions:
        raise ConfigError("the backbone has no convolution to quantise; export it as fp16")
    for node in convolutions:
        conv = _module(copied, node)
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(len(conv.weight)), requires_grad=False)
    return copied


def _convolutions(body: GraphModule) -> list[Node]:
    return [node for node in body.graph.nodes if _is(body, node, nn.Conv2d)]


def _is(body: GraphModule, node: Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(body.get_submodule(str(node.target)), kind)


def _module(body: GraphModule, node: Node | str) -> Any:
    return body.get_submodule(node if isinstance(node, str) else str(node.target))


def _between(body: GraphModule, suits: Callable[[nn.Conv2d], bool]) -> list[tuple[Any, Node, list[Any]]]:
    """Each ReLU6 with the convolution that alone feeds it and those that read it, where all of these suit."""
    found = []
    for node in body.graph.nodes:
        if not _is(body, node, nn.ReLU6) or not node.users:
            continue
        before = node.args[0]
        if not _is(body, before, nn.Conv2d) or len(before.users) > 1:
            continue
        if all(_is(body, user, nn.Conv2d) for user in node.users):
            behind = [_module(body, user) for user in node.users]
            if all(suits(conv) for conv in behind):
                found.append((_module(body, before), node, behind))
    return found


def _equalize(body: GraphModule, batches: Callable[[], Iterable[Tensor]]) -> None:
    """Enlarge the channels between a convolution and depthwise ones that use little of a ReLU6's range."""
    places = _between(body, lambda conv: conv.groups == conv.in_channels)
    names = [str(node.target) for _, node, _ in places]
    largest = _largest(body, names, batches, lambda _, outputs: outputs.amax((0, 2, 3)))
    for name, (before, _, behind) in zip(names, places, strict=True):
        factor = (_RELU6 / (ROOM * largest[name].clamp(min=1e-6))).clamp(1, _MOST)
        before.weight *= factor.view(-1, 1, 1, 1)
        before.bias *= factor
        for conv in behind:
            conv.weight /= factor.repeat_interleave(len(conv.weight) // len(factor)).view(-1, 1, 1, 1)


def _centre(body: GraphModule) -> None:
    """Move each ReLU6 between a convolution and others that don't pad by half of its range."""
    middle = _RELU6 / 2
    for before, node, behind in _between(body, lambda conv: set(conv.kernel_size) == {1} and not any(conv.padding)):
        before.bias.data -= middle
        for conv in behind:
            conv.bias.data += middle * conv.weight.double().sum(dim=(1, 2, 3)).to(conv.bias.dtype)
        parent, _, name = str(node.target).rpartition(".")
        setattr(body.get_submodule(parent), name, _Centred())
    body.recompile()


def _largest(
    body: GraphModule,
    names: Iterable[str],
    batches: Callable[[], Iterable[Tensor]],
    of: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """The largest that `of` gives for the inputs and outputs of each of the modules."""
    largest: dict[str, Tensor] = {}

    def keep(name: str, inputs: Tensor, outputs: Tensor) -> None:
        found = of(inputs, outputs)
        largest[name] = torch.maximum(largest[name], found) if name in largest else found

    _watch(body, names, batches, keep)
    return largest


def _round_weights(body: GraphModule, scales: dict[str, Tensor], batches: Callable[[], Iterable[Tensor]]) -> None:
    """Round the weights of convolutions, whose inputs will be rounded by `scales`, and correct their biases."""
    exact = {name: _module(body, name) for name in scales}
    inexact = copy.deepcopy(exact)
    sums: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    for conv in inexact.values():
        conv.weight.copy_(rounded_weight(conv.weight))

    def keep(name: str, inputs: Tensor, outputs: Tensor) -> None:
        shift = outputs - inexact[name](rounded(inputs, scales[name]))
        sums[name] = sums.get(name, torch.zeros(())) + shift.double().mean((2, 3)).sum(0)
        count[name] = count.get(name, 0) + len(inputs)

    _watch(body, scales, batches, keep)
    for name, conv in exact.items():
        conv.weight.copy_(inexact[name].weight)
        conv.bias += (sums[name] / count[name]).to(conv.bias.dtype)


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight `(O, ...)` in multiples of a scale a channel, of which INT8 has enough."""
    scale = weight_scales(weight).view(-1, *[1] * (weight.ndim - 1))
    return torch.round(weight / scale) * scale


def weight_scales(weight: Tensor) -> Tensor:
    """The scale of each channel `(O,)` of a weight `(O, ...)`; rounding a rounded one by it leaves it as it is."""
    return step_to(weight.flatten(1).abs().amax(dim=1))


def step_to(top: Tensor) -> Tensor:
    """The step by which INT8 reaches `top`; 1 where nothing is to be reached."""
    return torch.where(top > 0, top / INT8_MAX, torch.ones_like(top))


def rounded(x: Tensor, scale: Tensor) -> Tensor:
    """To the nearest multiple of `scale`, as ONNX divides and rounds; half the time of PyTorch's own operator."""
    return (x / scale).round_().clamp_(_INT8_MIN, INT8_MAX).mul_(scale)


def _watch(
    body: GraphModule,
    names: Iterable[str],
    batches: Callable[[], Iterable[Tensor]],
    keep: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Run the batches, and show `keep` the name, input and output of each of the modules."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, inputs, output: keep(name, inputs[0], output)

    hooks = [body.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        for batch in batches():
            body(batch)
    finally:
        for one in hooks:
            one.remove()


def _insert_quantizers(body: GraphModule) -> list[tuple[Node, Quantizer]]:
    """Put a quantiser in front of the convolutions, one for each tensor that they read; each with one that reads it."""
    inserted: dict[Node, Node] = {}
    found = []
    for conv in _convolutions(body):
        source = conv.all_input_nodes[0]
        if source not in inserted:
            name, quantizer = f"quantizer_{len(inserted)}", Quantizer()
            body.add_submodule(name, quantizer.to(_module(body, conv).weight.device))
            with body.graph.inserting_after(source):
                inserted[source] = body.graph.call_module(name, (source,))
            found.append((conv, quantizer))
        conv.args = (inserted[source], *conv.args[1:])
    body.recompile()
    return found
