"""ONNX graphs copied, measured inside, cleared of what nothing reads, and run on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from simplenet_edge.engines.onnxruntime import cpu_session as session_of
from simplenet_edge.spec import Frames

__all__ = ["copy_of", "cpu_session", "drop_unused", "measure"]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that can be changed while `model` stays as it is."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def cpu_session(graph: onnx.ModelProto | bytes) -> Any:
    """ONNX Runtime on the CPU with the engine's options, see `session_options`."""
    text = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return session_of(text)


def measure(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    constants: Iterable[TensorProto],
    outputs: Sequence[str],
    frames: Iterable[Frames],
) -> Iterator[list[npt.NDArray[Any]]]:
    """The values of `outputs`, which `nodes` and `constants` add to a copy of the graph; model frame by model frame.

    Frames are uint8 `(H, W, 3)`. What the nodes reduce inside the graph is all that is held.
    """
    probe = copy_of(model)
    probe.graph.node.extend(nodes)
    probe.graph.initializer.extend(constants)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    session = cpu_session(probe)
    for frame in frames:
        yield session.run(list(outputs), {"frames": frame[np.newaxis]})


def drop_unused(graph: onnx.GraphProto) -> None:
    """Forget constants that nothing reads any more, and what was known of their shapes."""
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    for field in (graph.initializer, graph.value_info):
        kept = [entry for entry in field if entry.name in used]
        del field[:]
        field.extend(kept)
