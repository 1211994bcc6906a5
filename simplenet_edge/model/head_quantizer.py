"""What the head of an INT8 model reads, rounded as the folded graph rounds it.

Its first convolutions read feature maps, in 256 steps a layer. They give each layer's share of the embedding, whose
channels have steps of their own: a channel's step and its middle go into the convolutions before and behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from simplenet_edge.model.quantization import ROOM, Quantizer, rounded, step_to

__all__ = ["HeadQuantizer"]

_SMALLEST = 1e-6  # of the largest step: what a channel has that never changes


class HeadQuantizer(nn.Module):
    """Rounds the feature maps of `n_layers` layers, and their shares of an embedding of `dim` channels.

    `steps` `(dim,)` are the same for all layers, as some channels are shares of two; `middles` `(n_layers, dim)` are
    what comes to lie at zero.
    """

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(Quantizer() for _ in range(n_layers))
        self.register_buffer("steps", torch.ones(dim))
        self.register_buffer("middles", torch.zeros(n_layers, dim))
        self.steps: Tensor
        self.middles: Tensor

    def rounded_features(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The feature map of each layer, rounded."""
        return [quantizer(feature) for quantizer, feature in zip(self.features, features, strict=True)]

    def forward(self, share: Tensor, layer: int, channels: Tensor | slice = slice(None)) -> Tensor:
        """Some channels of the share of a layer `(B, D, h, w)`, rounded."""
        middle = self.middles[layer, channels].view(-1, 1, 1)
        return rounded(share - middle, self.steps[channels].view(-1, 1, 1)) + middle

    @torch.no_grad()
    def calibrate(
        self,
        features_of: Callable[[Tensor], Sequence[Tensor]],
        shares_of: Callable[[Sequence[Tensor]], Sequence[Tensor]],
        batches: Iterable[Tensor],
    ) -> None:
        """Set all steps by what is computed from `batches` of images."""
        tops = torch.zeros(len(self.features))
        low, high = torch.full_like(self.middles, torch.inf), torch.full_like(self.middles, -torch.inf)
        for images in batches:
            features = features_of(images)
            tops = torch.maximum(tops, torch.stack([feature.abs().amax().cpu() for feature in features]))
            for i, share in enumerate(shares_of(features)):
                low[i] = torch.minimum(low[i], share.amin((0, 2, 3)))
                high[i] = torch.maximum(high[i], share.amax((0, 2, 3)))
        for quantizer, top in zip(self.features, tops, strict=True):
            assert isinstance(quantizer, Quantizer)
            quantizer.scale.copy_(step_to(top))
        self.middles.copy_((low + high) / 2)
        spans = (high - low).amax(dim=0)
        self.steps.copy_(step_to(ROOM / 2 * spans.clamp(min=_SMALLEST * float(spans.max()))))
