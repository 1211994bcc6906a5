"""The two small networks that SimpleNet trains: the projection and the discriminator.

Both map rows of patch features, float32 `(N, in_planes)`. Module names equal those of the official code
(DonaldRR/SimpleNet), so that its checkpoints load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Discriminator", "Projection"]

LEAKY_SLOPE = 0.2


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)


class Projection(nn.Module):
    """The feature adaptor of the paper (section 3.2): `n_layers` linear layers `(N, in_planes) -> (N, out_planes)`.

    Between the layers, never behind the last: nothing for `layer_type` 0, batch norm for 1, batch norm and LeakyReLU
    for 2. The official code has the batch norm commented out for types 1 and 2; `batch_norm=False` follows it, and an
    official checkpoint loads only so.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int | None = None,
        n_layers: int = 1,
        layer_type: int = 0,
        *,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        out_planes = in_planes if out_planes is None else out_planes
        self.layers = nn.Sequential()
        for i in range(n_layers):
            self.layers.add_module(f"{i}fc", nn.Linear(in_planes if i == 0 else out_planes, out_planes))
            if i < n_layers - 1:
                if layer_type > 0 and batch_norm:
                    self.layers.add_module(f"{i}bn", nn.BatchNorm1d(out_planes))
                if layer_type > 1:
                    self.layers.add_module(f"{i}relu", nn.LeakyReLU(LEAKY_SLOPE))
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(N, in_planes)` as `(N, out_planes)`."""
        projected: Tensor = self.layers(x)
        return projected


class Discriminator(nn.Module):
    """Normality of patch features (section 3.4): `(N, in_planes) -> (N, 1)`, larger means more *normal*.

    `n_layers - 1` blocks of linear, batch norm and LeakyReLU, then one linear output. `hidden=None` shrinks each block
    by 1.5. The anomaly score is the negative output.
    The official output layer has no bias (`tail_bias=False`).
    """

    def __init__(
        self, in_planes: int, n_layers: int = 2, hidden: int | None = None, *, tail_bias: bool = False
    ) -> None:
        super().__init__()
        self.body = nn.Sequential()
        width = in_planes
        for i in range(n_layers - 1):
            previous, width = width, (int(width // 1.5) if hidden is None else hidden)
            block = nn.Sequential(nn.Linear(previous, width), nn.BatchNorm1d(width), nn.LeakyReLU(LEAKY_SLOPE))
            self.body.add_module(f"block{i + 1}", block)
        self.tail = nn.Linear(width, 1, bias=tail_bias)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Features `(N, in_planes)` as normality `(N, 1)`."""
        normality: Tensor = self.tail(self.body(x))
        return normality
