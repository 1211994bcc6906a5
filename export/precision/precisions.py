"""A lower precision of a model with its evidence: made, checked for TensorRT, calibrated, gated, recorded.

FP16 rounds the FP32 graph. INT8 is another model: its head learned on what is quantised, and its graph is proven
against that model. Both have a threshold of their own, and their quality is held against FP32's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import onnx

from simplenet_edge.bundle import PrecisionRecord
from simplenet_edge.comparison import FP32_TOLERANCE, INT8_TOLERANCE, Comparison, compare
from simplenet_edge.data.layouts import Sample
from simplenet_edge.errors import ParityError
from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.evidence import CalibrationEvidence, PrecisionEvidence
from simplenet_edge.export.parity import prove_parity
from simplenet_edge.export.precision.acceptance import BOUNDS, AcceptanceTest, require_passed
from simplenet_edge.export.precision.calibration import CalibrationImages, refuse_defects, too_few_warning
from simplenet_edge.export.precision.drawn_test import DrawnTest
from simplenet_edge.export.precision.fp16 import Fp16Graph, activation_ranges, to_fp16
from simplenet_edge.export.precision.graph_predictor import GraphPredictor
from simplenet_edge.export.precision.int8 import float_layers, int8_layers, with_int8_weights
from simplenet_edge.export.tensorrt_lint import require_parsable
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.progress import OnMessage, ignore_message
from simplenet_edge.spec import Frames, OperatingPoint, Prediction
from simplenet_edge.training.calibration import CalibrationScores, calibration_scores
from simplenet_edge.training.run import TrainingRun

__all__ = ["PRECISIONS", "MadePrecision", "PrecisionExport"]

PRECISIONS = ("fp16", "int8")

_GOLDEN_HEADROOM = 2  # another engine's rounding of the same graph, on top of what was measured here


class MadePrecision(NamedTuple):
    """A serialised graph with its record and, for a model of its own, what it says about the golden frames."""

    graph: bytes
    record: PrecisionRecord
    golden: Prediction | None = None


@dataclass
class PrecisionExport:
    """Makes precisions of one run; what they share is measured once.

    `model` is the FP32 graph, `golden` the golden frames uint8 `(N, H, W, 3)` with its prediction, `labelled` the test
    images of the gate, or none. Where the calibration images were trained on, as with few parts, `trained_on`, they set
    no threshold: each precision has that of its run.
    """

    run: TrainingRun
    model: onnx.ModelProto
    images: CalibrationImages
    golden: tuple[Frames, Prediction]
    labelled: tuple[Sample, ...] = ()
    trained_on: bool = False
    on_message: OnMessage = ignore_message

    def __post_init__(self) -> None:
        """Raises DataError for calibration images that look defective, before anything takes long."""
        _ = self._fp32_point

    def fp16(self) -> MadePrecision:
        """FP32's graph in float16, with a threshold of its own.

        It is gated on calibration images, on defects drawn on them and, once, on labelled images where there are any.
        Raises ParityError, with the figures, where it is not as good as FP32, EngineError for a graph that TensorRT
        would not parse.
        """
        self.on_message("measuring the range of every activation")
        half = to_fp16(self.model, activation_ranges(self.model, self.images.frames(self.images.range_samples)))
        predictor = GraphPredictor(half.graph)
        frames, expected = self.golden
        apart = compare(predictor.predict(frames), expected, self.run.operating_point.threshold).worst
        tolerance = max(_GOLDEN_HEADROOM * apart, FP32_TOLERANCE)
        record = self._record("fp16", half, predictor, self.run, tolerance, {})
        return MadePrecision(half.graph.SerializeToString(), record)

    def int8(self, run: TrainingRun) -> MadePrecision:
        """The graph of `run`, an INT8 model: `model.int8` says what of it computes in INT8.

        It is proven against `run`'s own model, and gated against FP32 as FP16 is. Raises what `fp16` raises.
        """
        folded = DeployedSimpleNet(run.model, choose_forms(run.model))
        graph = with_int8_weights(to_onnx(folded, run.model.input_spec))
        if left := float_layers(graph):
            raise ParityError(f"{', '.join(left)} of the backbone would not compute in INT8: please report this")
        frames, _ = self.golden
        threshold = run.operating_point.threshold
        content = graph.SerializeToString()
        found, proof = prove_parity(run.model, folded, content, frames, threshold, INT8_TOLERANCE)
        record = self._record("int8", Fp16Graph(graph, {}), GraphPredictor(graph), run, INT8_TOLERANCE, proof)
        return MadePrecision(content, record, found)

    def _record(
        self,
        precision: str,
        half: Fp16Graph,
        predictor: GraphPredictor,
        run: TrainingRun,
        tolerance: float,
        proof: dict[str, Comparison],
    ) -> PrecisionRecord:
        """The record of a graph that passed: on calibration images and drawn defects, and once on labelled images."""
        point, statistics = run.operating_point, run.score_statistics
        if not self.trained_on:
            scores = self._scores(predictor)
            point, statistics = scores.operating_point(point.alpha), scores.statistics()
        self.on_message(f"{precision}: comparing it with fp32 on calibration images and on defects drawn on them")
        drawn = self._drawn.auroc(predictor), self._drawn_fp32, self._drawn.n_frames
        gate, figures = self._calibration_gate.judge(precision, predictor, point, drawn)
        require_passed(gate)
        if self.labelled:
            self.on_message(f"{precision}: judging it on {len(self.labelled)} labelled images")
            gate, figures = self._labelled_gate.judge(precision, predictor, point, drawn)
            require_passed(gate)
        require_parsable(half.graph, precision)
        evidence = PrecisionEvidence(
            int8_layers=int8_layers(half.graph),
            kept_float=half.kept_float,
            proof=proof,
            calibration=CalibrationEvidence(len(self.images.samples), self.images.source),
            gate=gate,
            bounds=BOUNDS[precision],
            warnings=[warning for warning in (too_few_warning(self.images),) if warning],
        )
        return PrecisionRecord(
            graph=f"model.{precision}.onnx",
            operating_point=point,
            score_statistics=statistics,
            tolerance=tolerance,
            metrics=figures.to_dict()["metrics"] if self.labelled else {},
            parity=evidence.to_dict(),
        )

    def _scores(self, predictor: GraphPredictor) -> CalibrationScores:
        images = self.images
        return calibration_scores(
            predictor, images.samples, images.spec, parts=images.parts, augment=images.augment, seed=images.seed
        )

    @cached_property
    def _reference(self) -> GraphPredictor:
        return GraphPredictor(self.model)

    @cached_property
    def _fp32_point(self) -> OperatingPoint:
        """From these calibration images."""
        self.on_message("measuring fp32")
        scores, point = self._scores(self._reference), self.run.operating_point
        refuse_defects(scores.scores, point, self.images.parts)
        return point if self.trained_on else scores.operating_point(point.alpha)

    @cached_property
    def _calibration_gate(self) -> AcceptanceTest:
        images = self.images
        return AcceptanceTest(self._reference, self._fp32_point, images.samples, images.spec, labelled=False)

    @cached_property
    def _labelled_gate(self) -> AcceptanceTest:
        return AcceptanceTest(self._reference, self._fp32_point, self.labelled, self.images.spec, labelled=True)

    @cached_property
    def _drawn(self) -> DrawnTest:
        return DrawnTest(self.images.frames(self.images.samples))

    @cached_property
    def _drawn_fp32(self) -> float:
        return self._drawn.auroc(self._reference)
