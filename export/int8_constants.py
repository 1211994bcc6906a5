"""Weights of a folded head that are stored as INT8: integers and float32 scales, multiplied out where they are read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simplenet_edge.model.quantization import INT8_MAX

__all__ = ["Int8Constant", "Int8Conv2d", "exact_scales"]


class Int8Constant(nn.Module):
    """A constant float64 `(N, ...)` in multiples of a scale: one in all `()`, or one for each of the N `(N,)`."""

    def __init__(self, value: Tensor, scale: Tensor) -> None:
        super().__init__()
        shaped = scale.view(-1, *[1] * (value.ndim - 1)) if scale.ndim else scale
        self.register_buffer("integers", torch.round(value / shaped).clamp(-INT8_MAX, INT8_MAX).to(torch.int8))
        self.register_buffer("scale", scale.float())
        self.register_buffer("zero_point", torch.zeros(scale.shape, dtype=torch.int8))
        self.register_buffer("shaped", shaped.float())
        self.integers: Tensor
        self.scale: Tensor
        self.zero_point: Tensor
        self.shaped: Tensor

    def forward(self) -> Tensor:
        """The constant as float32."""
        if not torch.onnx.is_in_onnx_export():
            return self.integers.float() * self.shaped
        parts, shape = (self.integers, self.scale, self.zero_point), self.integers.shape
        return torch.onnx.ops.symbolic("DequantizeLinear", parts, {"axis": 0}, dtype=torch.float32, shape=shape)


class Int8Conv2d(nn.Module):
    """A convolution, made of one in float64, with its weight in multiples of a scale a channel."""

    def __init__(self, conv: nn.Conv2d, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = Int8Constant(conv.weight.detach(), scale)
        self.register_buffer("bias", None if bias is None else bias.float())
        self.bias: Tensor | None
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of `x`, whose values are rounded."""
        return F.conv2d(x, self.weight(), self.bias, self.stride, self.padding, groups=self.groups)


def exact_scales(weight: Tensor) -> Tensor:
    """The scale of each channel `(O,)` of which all its weights `(O, ...)` are multiples, or nearly so.

    Means over windows that overlap weigh their entries by a few small fractions, of which there is such a scale.
    """
    flat = weight.flatten(1)
    top = flat.abs().amax(dim=1)
    best, least = top / INT8_MAX, torch.full_like(top, torch.inf)
    for reached in range(INT8_MAX, INT8_MAX // 2, -1):
        steps = flat / (top / reached)[:, None]
        error = (steps - steps.round()).abs().amax(dim=1) / reached
        better = error < least - 1e-9
        best, least = torch.where(better, top / reached, best), torch.where(better, error, least)
    return best
