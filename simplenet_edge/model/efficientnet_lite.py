"""EfficientNet-Lite 0 to 2 (Liu, TensorFlow 2020): EfficientNet without squeeze-and-excite, with ReLU6, for INT8.

In: images float32 `(B, 3, H, W)` RGB in -1..1. Modules are called as timm's are, `blocks.2` and so on. TensorFlow pads
a strided convolution of an image of even size by one less before it than after it: `SameConv2d`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EFFICIENTNET_LITE", "EfficientNetLite", "SameConv2d", "efficientnet_lite"]

EFFICIENTNET_LITE: Mapping[str, tuple[float, float]] = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""Width and depth as multiples of the smallest one's."""

_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
_LAST_STAGES = ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
"""Blocks, kernel, stride, expansion and channels of each stage of the smallest one."""
_STEM, _HEAD, _EPS = 32, 1280, 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding of images whose sides its stride divides.

    k - s pixels of zeros in all, the odd one after the image; `padding` is what stands before and `after` behind it.
    """

    def __init__(
        self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False, dilation: int = 1
    ) -> None:
        total = max(dilation * (kernel - 1) + 1 - stride, 0)
        super().__init__(into, out, kernel, stride, total // 2, dilation, groups, bias)
        self.after = total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` as feature maps `(B, C', ceil(H / stride), ceil(W / stride))`."""
        before = int(self.padding[0])
        if before == self.after:
            return super().forward(x)
        padded = F.pad(x, (before, self.after, before, self.after))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _DepthwiseBlock(nn.Module):
    """The first block: a depthwise convolution and a pointwise one."""

    def __init__(self, into: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(into, into, kernel, stride, groups=into)
        self.bn1 = nn.BatchNorm2d(into, _EPS)
        self.act = nn.ReLU6()
        self.conv_pw = SameConv2d(into, out, 1)
        self.bn2 = nn.BatchNorm2d(out, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return out


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; the input is added where it has the output's shape."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.conv_pw = SameConv2d(into, wide, 1)
        self.bn1 = nn.BatchNorm2d(wide, _EPS)
        self.act1 = nn.ReLU6()
        self.conv_dw = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.bn2 = nn.BatchNorm2d(wide, _EPS)
        self.act2 = nn.ReLU6()
        self.conv_pwl = SameConv2d(wide, out, 1)
        self.bn3 = nn.BatchNorm2d(out, _EPS)
        self.is_residual = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        wide = self.act2(self.bn2(self.conv_dw(self.act1(self.bn1(self.conv_pw(x))))))
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return x + out if self.is_residual else out


class EfficientNetLite(nn.Module):
    """The whole classifier of 1000 classes, of random weights."""

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, _STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(_STEM, _EPS)
        self.act1 = nn.ReLU6()
        stages, channels = [], _STEM
        for i, (repeats, kernel, stride, expansion, out) in enumerate((*_STAGES, *_LAST_STAGES)):
            is_end = i in (0, len(_STAGES) + len(_LAST_STAGES) - 1)
            blocks = []
            for block in range(repeats if is_end else math.ceil(repeats * depth)):
                step, wider = (1 if block else stride), _rounded(out * width)
                blocks.append(
                    _DepthwiseBlock(channels, wider, kernel, step)
                    if expansion == 1
                    else _InvertedResidual(channels, wider, kernel, step, expansion)
                )
                channels = wider
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = SameConv2d(channels, _HEAD, 1)
        self.bn2 = nn.BatchNorm2d(_HEAD, _EPS)
        self.act2 = nn.ReLU6()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_HEAD, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 `(B, 3, H, W)` as logits `(B, 1000)`."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.global_pool(self.act2(self.bn2(self.conv_head(x))))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def efficientnet_lite(name: str) -> EfficientNetLite:
    """One of `EFFICIENTNET_LITE`, of random weights."""
    return EfficientNetLite(*EFFICIENTNET_LITE[name])


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 90 % of the number."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
