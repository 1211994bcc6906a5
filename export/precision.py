"""A lower precision of a model with its evidence: made, checked for TensorRT, calibrated, gated, recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from simplenet_edge.bundle import PrecisionRecord
from simplenet_edge.data import Sample
from simplenet_edge.export.agreement import Agreement
from simplenet_edge.export.bias import BiasCorrection
from simplenet_edge.export.calibration import CalibrationImages, calibration_scores, refuse_defects, too_few_warning
from simplenet_edge.export.gate import BOUNDS, Gate, GateResult, require_passed
from simplenet_edge.export.graph_predictor import GraphPredictor
from simplenet_edge.export.half import HalfGraph, activation_ranges, half_layers, to_half
from simplenet_edge.export.int8 import CALIBRATORS, activation_scales, backbone_nodes, quantizable_layers, quantize
from simplenet_edge.export.lint import require_parsable
from simplenet_edge.runtime.verify import FP32_TOLERANCE, map_scale
from simplenet_edge.spec import Frames, OperatingPoint, Prediction

__all__ = ["FALLBACKS", "PRECISIONS", "PrecisionExport"]

PRECISIONS = ("fp16", "int8")
FALLBACKS = (2, 4, 8, 16, 24)
"""How many of the most sensitive layers are in float32, round by round, where a precision does not pass the gate."""

_COMPARED_FRAMES = 16  # per layer and per calibration; their differences are averages over every pixel
_GOLDEN_HEADROOM = 2  # another engine's rounding of the same graph, on top of what was measured here


@dataclass(frozen=True)
class _Form:
    """A precision of the graph: its layers (node name -> name), and how to build it with some of them in float32."""

    layers: dict[str, str]
    build: Callable[[Collection[str]], HalfGraph]


@dataclass
class PrecisionExport:
    """Makes precisions of one FP32 graph; what they share is measured once.

    `point` is the run's operating point, `golden` the golden frames uint8 `(N, H, W, 3)` with their FP32 prediction,
    `labelled` the test images of the gate, or none.
    """

    model: onnx.ModelProto
    images: CalibrationImages
    point: OperatingPoint
    golden: tuple[Frames, Prediction]
    labelled: tuple[Sample, ...] = ()
    tell: Callable[[str], None] = lambda stage: None

    def make(self, precision: str) -> tuple[bytes, PrecisionRecord]:
        """The serialised graph of `precision` ("fp16" or "int8") and its record.

        Where it fails the gate, its most sensitive layers go back to float32, a few more in each round. Raises
        DataError for calibration images that look defective, ParityError, with the table, where the last round fails
        too, EngineError for a graph that TensorRT would not parse, ConfigError for a backbone with nothing to quantise.
        """
        form, proof = self._half_form() if precision == "fp16" else self._int8_form()
        order: list[str] = []
        for count in (0, *(count for count in FALLBACKS if count < len(form.layers))):
            if count and not order:
                self.tell(f"{precision}: measuring each of its {len(form.layers)} layers alone")
                order = self._most_sensitive(form)
            half = form.build(set(order[:count]))
            chosen = {
                **proof,
                "layers": len(form.layers),
                "layers_in_float": [form.layers[name] for name in order[:count]],
                "kept_float": half.kept_float,
            }
            self.tell(f"{precision}: comparing it with fp32" + (f", {count} layers in float" if count else ""))
            result, record = self._measure(precision, half.graph, chosen)
            if result.passed:
                break
            self.tell(f"{precision}: {'; '.join(result.failures)}")
        require_passed(result)
        return half.graph.SerializeToString(), record

    def _half_form(self) -> tuple[_Form, dict[str, Any]]:
        correction = BiasCorrection(self.model, self.images.frames(self.images.ranging), None)

        def build(keep: Collection[str]) -> HalfGraph:
            half = to_half(self.model, self._ranges, keep)
            correction.apply(half.graph)
            return half

        return _Form(half_layers(self.model), build), {}

    def _int8_form(self) -> tuple[_Form, dict[str, Any]]:
        """INT8 in the backbone and float16 in the head; layers that go back do so to float32, the backbone's type.

        The calibrator is the one that agrees best with FP32 on frames held apart.
        """
        layers, backbone = quantizable_layers(self.model), backbone_nodes(self.model)
        forms, differences = {}, {}
        for name in CALIBRATORS:
            self.tell(f"int8: calibrating, {name}")
            forms[name] = self._calibrated(name, layers, backbone)
            differences[name] = self._agreement.difference(forms[name].build(()).graph)
        best = min(differences, key=lambda name: differences[name])
        return forms[best], {"calibrator": best, "map_difference_by_calibrator": differences}

    def _calibrated(self, calibrator: str, layers: dict[str, str], backbone: set[str]) -> _Form:
        scales = activation_scales(self.model, calibrator, self.images.frames(self.images.ranging))
        quantized = quantize(self.model, scales, list(layers))
        correction = BiasCorrection(self.model, self.images.frames(self.images.ranging), quantized)

        def build(keep: Collection[str]) -> HalfGraph:
            return to_half(correction.apply(quantize(self.model, scales, list(layers), keep)), self._ranges, backbone)

        return _Form(layers, build)

    def _most_sensitive(self, form: _Form) -> list[str]:
        """The layers, the one that does most harm when it alone is in the lower precision first.

        One at a time, not all but one: a difference from an exact reference is measured better than a small change of a
        large one.
        """
        layers = set(form.layers)
        alone = {name: self._agreement.difference(form.build(layers - {name}).graph) for name in form.layers}
        return sorted(alone, key=lambda name: -alone[name])

    def _measure(
        self, precision: str, graph: onnx.ModelProto, proof: dict[str, Any]
    ) -> tuple[GateResult, PrecisionRecord]:
        require_parsable(graph, precision)
        candidate = GraphPredictor(graph)
        scores = calibration_scores(candidate, self.images)
        point = scores.operating_point(self.point.alpha)
        result, figures = self._gate.judge(precision, candidate, point)
        record = PrecisionRecord(
            graph=f"model.{precision}.onnx",
            operating_point=point,
            score_statistics=scores.statistics(),
            tolerance=max(_GOLDEN_HEADROOM * self._golden_difference(candidate), FP32_TOLERANCE),
            metrics=figures.to_dict()["metrics"] if self.labelled else {},
            parity={
                **proof,
                "calibration": {"images": len(scores.scores), "source": self.images.source},
                "gate": dataclasses.asdict(result),
                "bounds": dataclasses.asdict(BOUNDS[precision]),
                "warnings": [warning for warning in (too_few_warning(self.images),) if warning],
            },
        )
        return result, record

    def _golden_difference(self, candidate: GraphPredictor) -> float:
        frames, expected = self.golden
        found = candidate.predict(frames)
        worst = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        return worst / map_scale(expected)

    @cached_property
    def _reference(self) -> GraphPredictor:
        return GraphPredictor(self.model)

    @cached_property
    def _ranges(self) -> dict[str, float]:
        self.tell("measuring the range of every activation")
        return activation_ranges(self.model, self.images.frames(self.images.ranging))

    @cached_property
    def _agreement(self) -> Agreement:
        return Agreement(self._reference, self.images.frames(self.images.apart[:_COMPARED_FRAMES]))

    @cached_property
    def _gate(self) -> Gate:
        self.tell("measuring fp32")
        scores = calibration_scores(self._reference, self.images)
        refuse_defects(scores.scores, self.point)
        point = scores.operating_point(self.point.alpha)
        samples = self.labelled or self.images.samples
        return Gate(self._reference, point, samples, self.images.spec, labelled=bool(self.labelled))
