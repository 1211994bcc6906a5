"""The FP32 graph with its backbone convolutions quantised to INT8, as Q/DQ pairs in the form that TensorRT takes.

In: the folded graph, and good model frames uint8 `(H, W, 3)`. Out: the same contract. Signed, symmetric, one scale a
channel for weights and one a tensor for activations, float32 scales, float32 biases. The head, the resizes, the maximum
and the map are left as they are. ONNX Runtime's quantiser does the work.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import CalibrationDataReader, TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from simplenet_edge.errors import ConfigError
from simplenet_edge.spec import Frames

__all__ = ["CALIBRATORS", "activation_scales", "backbone_nodes", "quantizable_layers", "quantize"]

CALIBRATORS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "min-max": (CalibrationMethod.MinMax, {"symmetric": True}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"symmetric": True, "percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {"symmetric": True}),
}
"""Ways to choose the range of an activation; which is best depends on the model, so that export measures them all."""

_OPTIONS = {
    "ActivationSymmetric": True,  # TensorRT takes no zero-point but 0
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT does not parse an INT32 DequantizeLinear
    "OpTypesToExcludeOutputQuantization": ["Conv"],  # Q/DQ in front of a convolution alone, where TensorRT fuses it
    "DedicatedQDQPair": False,
}
_BACKBONE, _HEAD = "backbone.", "head."  # how their weights are named in the graph


def quantizable_layers(model: onnx.ModelProto) -> dict[str, str]:
    """The backbone's convolutions, in order: node name -> the layer's name in the backbone."""
    layers = {
        node.name: node.input[1].removeprefix(_BACKBONE).removesuffix(".weight")
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1].startswith(_BACKBONE)
    }
    if not layers:
        raise ConfigError("the backbone has no convolution to quantise; export it as fp16")
    return layers


def backbone_nodes(model: onnx.ModelProto) -> set[str]:
    """The names of the nodes before the head: its first convolutions and what reads them are not among them."""
    head: set[str] = set()  # tensors
    nodes = set()
    for node in model.graph.node:
        if head.intersection(node.input) or any(name.startswith(_HEAD) for name in node.input):
            head.update(node.output)
        else:
            nodes.add(str(node.name))
    return nodes


class _OneByOne(CalibrationDataReader):  # type: ignore[misc]
    """Hands out one frame, then stops until it is given the next: calibrators hold every activation they are fed."""

    def __init__(self) -> None:
        self.frame: Frames | None = None

    def get_next(self) -> dict[str, Frames] | None:
        frame, self.frame = self.frame, None
        return None if frame is None else {"frames": frame[None]}


def activation_scales(model: onnx.ModelProto, calibrator: str, frames: Iterable[Frames]) -> TensorsData:
    """The range of every convolution's input over the frames, as one of `CALIBRATORS` chooses it.

    The frames are read one by one and memory does not grow with their number.
    """
    method, options = CALIBRATORS[calibrator]
    reader = _OneByOne()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        found = create_calibrator(path, ["Conv"], str(path.with_name("augmented.onnx")), method, extra_options=options)
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators print
            for frame in frames:
                reader.frame = frame
                found.collect_data(reader)
            return found.compute_data()


def quantize(
    model: onnx.ModelProto, scales: TensorsData, layers: Sequence[str], without: Collection[str] = ()
) -> onnx.ModelProto:
    """`model` with the convolutions `layers` (node names), less those in `without`, in INT8."""
    source = onnx.shape_inference.infer_shapes(model)
    quantizer = QDQQuantizer(
        source,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=scales,
        nodes_to_quantize=[name for name in layers if name not in without],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options=dict(_OPTIONS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    quantized.producer_name, quantized.producer_version = model.producer_name, model.producer_version
    _restore_inputs(quantized, set(layers) - set(without))
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def _restore_inputs(model: onnx.ModelProto, quantized: Collection[str]) -> None:
    """Let convolutions that are not in INT8 read what was there before its Q/DQ pair: the head, and layers left out.

    The quantiser gives the pair to every reader. An Add keeps it: TensorRT fuses an INT8 residual.
    """
    exact = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    exact |= {node.output[0]: exact[node.input[0]] for node in model.graph.node if node.input[0] in exact}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.name not in quantized:
            node.input[0] = exact.get(node.input[0], node.input[0])
