"""A lower precision of a model with its evidence: made, checked for TensorRT, calibrated, gated, recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import onnx

from simplenet_edge.bundle import PrecisionRecord
from simplenet_edge.comparison import FP32_TOLERANCE, compare
from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import ParityError
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.export.evidence import CalibrationEvidence, PrecisionEvidence
from simplenet_edge.export.precision.acceptance import BOUNDS, AcceptanceResult, AcceptanceTest, require_passed
from simplenet_edge.export.precision.activation_shift import shift_activations
from simplenet_edge.export.precision.agreement import Agreement
from simplenet_edge.export.precision.bias_correction import BiasCorrection
from simplenet_edge.export.precision.calibration import CalibrationImages, refuse_defects, too_few_warning
from simplenet_edge.export.precision.fp16 import Fp16Graph, activation_ranges, fp16_layers, to_fp16
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.int8 import (
    CALIBRATORS,
    activation_scales,
    backbone_nodes,
    quantizable_layers,
    quantize,
)
from simplenet_edge.export.tensorrt_lint import require_parsable
from simplenet_edge.progress import OnMessage, ignore_message
from simplenet_edge.spec import Frames, OperatingPoint, Prediction, ScoreStatistics
from simplenet_edge.training.calibration import CalibrationScores, calibration_scores

__all__ = ["MOST_IN_FLOAT", "PRECISIONS", "PrecisionExport"]

PRECISIONS = ("fp16", "int8")
MOST_IN_FLOAT = 2 / 3
"""The share of layers that may be in float32; with more of them a lower precision is not worth its name."""

_MORE_IN_FLOAT = 2  # in each round
_COMPARED_FRAMES = 16  # per layer and per calibration; their differences are averages over every pixel
_GOLDEN_HEADROOM = 2  # another engine's rounding of the same graph, on top of what was measured here


@dataclass(frozen=True)
class _Form:
    """A precision of the graph: its layers (node name -> name), and how to build it with some of them in float32."""

    layers: dict[str, str]
    build: Callable[[Collection[str]], Fp16Graph]
    calibrator: str | None = None  # of INT8, and how far the maps were off with each
    difference_by_calibrator: dict[str, float] | None = None


@dataclass(frozen=True)
class _Candidate:
    """A finished graph, ready to run, and what it says of the calibration images."""

    graph: onnx.ModelProto
    predictor: GraphPredictor
    scores: CalibrationScores


@dataclass
class PrecisionExport:
    """Makes precisions of one FP32 graph; what they share is measured once.

    `point` is the run's operating point, `golden` the golden frames uint8 `(N, H, W, 3)` with their FP32 prediction,
    `labelled` the test images of the gate, or none. Where the calibration images were trained on, as with few parts,
    `statistics` are those of the scores that set `point`, and both are every precision's.
    """

    model: onnx.ModelProto
    images: CalibrationImages
    point: OperatingPoint
    golden: tuple[Frames, Prediction]
    labelled: tuple[Sample, ...] = ()
    on_message: OnMessage = ignore_message
    statistics: ScoreStatistics | None = None

    def make(self, precision: str) -> tuple[bytes, PrecisionRecord]:
        """The serialised graph of `precision` ("fp16" or "int8") and its record.

        Its most sensitive layers go back to float32, two by two, until its maps agree with FP32 on calibration images
        and it passes the gate on them. Labelled images, where there are any, then judge it once. Raises DataError for
        calibration images that look defective, ParityError, with the table, for one that does not pass, EngineError
        for a graph that TensorRT would not parse, ConfigError for a backbone with nothing to quantise.
        """
        calibration_gate = self._calibration_gate
        form = self._half_form() if precision == "fp16" else self._int8_form()
        bound = BOUNDS[precision].map_mean
        order: list[str] = []
        judged: AcceptanceResult | None = None
        for count in range(0, 1 + int(MOST_IN_FLOAT * len(form.layers)), _MORE_IN_FLOAT):
            if count and not order:
                self.on_message(f"{precision}: measuring each of its {len(form.layers)} layers alone")
                order = self._most_sensitive(form)
            half = form.build(set(order[:count]))
            difference = self._agreement.difference(half.graph)
            self.on_message(f"{precision}: {count} layers in float, maps differ by {difference:.2%} of their range")
            if not difference <= bound:
                continue
            predictor = GraphPredictor(half.graph)
            candidate = _Candidate(half.graph, predictor, self._scores(predictor))
            judged, figures = self._judge(precision, candidate, calibration_gate)
            if judged.passed:
                break
        else:
            if judged is not None:
                require_passed(judged)
            raise ParityError(
                f"{precision} is not as good as fp32: with {count} of {len(form.layers)} layers in float32 its maps "
                f"differ by {difference:.2%} of their range on calibration images, at most {bound:.2%} may be; no "
                f"bundle was written. Leave --{precision} out, or calibrate with more images of good parts"
            )
        if self.labelled:
            self.on_message(f"{precision}: judging it on {len(self.labelled)} labelled images")
            judged, figures = self._judge(precision, candidate, self._labelled_gate)
            require_passed(judged)
        evidence = PrecisionEvidence(
            layers=len(form.layers),
            layers_in_float=[form.layers[name] for name in order[:count]],
            kept_float=half.kept_float,
            map_difference=difference,
            calibration=CalibrationEvidence(len(candidate.scores.scores), self.images.source),
            gate=judged,
            bounds=BOUNDS[precision],
            warnings=[warning for warning in (too_few_warning(self.images),) if warning],
            calibrator=form.calibrator,
            map_difference_by_calibrator=form.difference_by_calibrator,
        )
        return half.graph.SerializeToString(), self._record(precision, candidate, figures, evidence)

    def _half_form(self) -> _Form:
        correction = BiasCorrection(self.model, self.images.frames(self.images.range_samples), None)

        def build(keep: Collection[str]) -> Fp16Graph:
            half = to_fp16(self.model, self._ranges, keep)
            correction.apply(half.graph)
            return half

        return _Form(fp16_layers(self.model), build)

    def _int8_form(self) -> _Form:
        """INT8 in the backbone and float16 in the head; layers that go back do so to float32, the backbone's type.

        The calibrator is the one that agrees best with FP32 on frames held apart.
        """
        model = shift_activations(self.model)
        layers, backbone = quantizable_layers(model), backbone_nodes(model)
        forms, differences = {}, {}
        for name in CALIBRATORS:
            self.on_message(f"int8: calibrating, {name}")
            forms[name] = self._calibrated(model, name, layers, backbone)
            differences[name] = self._agreement.difference(forms[name].build(()).graph)
        best = min(differences, key=lambda name: differences[name])
        return dataclasses.replace(forms[best], calibrator=best, difference_by_calibrator=differences)

    def _calibrated(self, model: onnx.ModelProto, calibrator: str, layers: dict[str, str], backbone: set[str]) -> _Form:
        scales = activation_scales(model, calibrator, self.images.frames(self.images.range_samples))
        quantized = quantize(model, scales, list(layers))
        correction = BiasCorrection(model, self.images.frames(self.images.range_samples), quantized)

        def build(keep: Collection[str]) -> Fp16Graph:
            return to_fp16(correction.apply(quantize(model, scales, list(layers), keep)), self._ranges, backbone)

        return _Form(layers, build)

    def _most_sensitive(self, form: _Form) -> list[str]:
        """The layers, the one that does most harm when it alone is in the lower precision first.

        One at a time, not all but one: a difference from an exact reference is measured better than a small change of a
        large one.
        """
        layers = set(form.layers)
        alone = {name: self._agreement.difference(form.build(layers - {name}).graph) for name in form.layers}
        return sorted(alone, key=lambda name: -alone[name])

    def _judge(
        self, precision: str, candidate: _Candidate, test: AcceptanceTest
    ) -> tuple[AcceptanceResult, Evaluation]:
        point = self._point_of(candidate.scores)
        result, figures = test.judge(precision, candidate.predictor, point)
        if not result.passed:
            self.on_message(f"{precision}: {'; '.join(result.failures)}")
        return result, figures

    def _record(
        self,
        precision: str,
        candidate: _Candidate,
        figures: Evaluation,
        evidence: PrecisionEvidence,
    ) -> PrecisionRecord:
        require_parsable(candidate.graph, precision)
        return PrecisionRecord(
            graph=f"model.{precision}.onnx",
            operating_point=self._point_of(candidate.scores),
            score_statistics=self.statistics or candidate.scores.statistics(),
            tolerance=max(_GOLDEN_HEADROOM * self._golden_difference(candidate.predictor), FP32_TOLERANCE),
            metrics=figures.to_dict()["metrics"] if self.labelled else {},
            parity=evidence.to_dict(),
        )

    def _golden_difference(self, candidate: GraphPredictor) -> float:
        frames, expected = self.golden
        return compare(candidate.predict(frames), expected, self.point.threshold).worst

    def _scores(self, predictor: GraphPredictor) -> CalibrationScores:
        images = self.images
        return calibration_scores(
            predictor, images.samples, images.spec, parts=images.parts, augment=images.augment, seed=images.seed
        )

    def _point_of(self, scores: CalibrationScores) -> OperatingPoint:
        return self.point if self.statistics else scores.operating_point(self.point.alpha)

    @cached_property
    def _reference(self) -> GraphPredictor:
        return GraphPredictor(self.model)

    @cached_property
    def _ranges(self) -> dict[str, float]:
        self.on_message("measuring the range of every activation")
        return activation_ranges(self.model, self.images.frames(self.images.range_samples))

    @cached_property
    def _agreement(self) -> Agreement:
        return Agreement(self._reference, self.images.frames(self.images.holdout[:_COMPARED_FRAMES]))

    @cached_property
    def _point(self) -> OperatingPoint:
        """FP32's, from these calibration images. Raises DataError where they look defective."""
        scores = self._scores(self._reference)
        refuse_defects(scores.scores, self.point, self.images.parts)
        return self._point_of(scores)

    @cached_property
    def _calibration_gate(self) -> AcceptanceTest:
        self.on_message("measuring fp32")
        return AcceptanceTest(self._reference, self._point, self.images.samples, self.images.spec, labelled=False)

    @cached_property
    def _labelled_gate(self) -> AcceptanceTest:
        self.on_message(f"measuring fp32 on {len(self.labelled)} labelled images")
        return AcceptanceTest(self._reference, self._point, self.labelled, self.images.spec, labelled=True)
