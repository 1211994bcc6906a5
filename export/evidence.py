"""What stands behind a graph of a bundle: the fields are the keys of `parity` in its record in the manifest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from simplenet_edge.comparison import Comparison
from simplenet_edge.export.precision.acceptance import AcceptanceResult, Bounds

__all__ = ["CalibrationEvidence", "FoldEvidence", "PrecisionEvidence"]


@dataclass(frozen=True)
class FoldEvidence:
    """FP32: how the head was folded, and how far the folded module and the graph are from the trained model."""

    head_forms: dict[str, str]  # layer -> how its rows are computed
    opset: int
    folded: Comparison
    onnx: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class CalibrationEvidence:
    """The images that a precision was calibrated on: how many, and where from."""

    images: int
    source: str


@dataclass(frozen=True)
class PrecisionEvidence:
    """A lower precision: what it is made of, and the acceptance test that it passed."""

    layers: int  # that may be in the lower precision
    layers_in_float: list[str]  # put back into float32, the most sensitive first
    kept_float: dict[str, str]  # nodes whose values don't fit -> why
    map_difference: float  # mean, on calibration images, as a share of the maps' range
    calibration: CalibrationEvidence
    gate: AcceptanceResult
    bounds: Bounds
    warnings: list[str]
    calibrator: str | None = None
    map_difference_by_calibrator: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; without the calibrators where there was no choice of them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
