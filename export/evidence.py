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

    int8_layers: int  # convolutions and products that compute in INT8: backbone, head and memory, or none
    kept_float: dict[str, str]  # nodes whose values don't fit into float16 -> why
    proof: dict[str, Comparison]  # of a model of its own: how far the folded module and the graph are from it
    calibration: CalibrationEvidence
    gate: AcceptanceResult
    bounds: Bounds
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)
