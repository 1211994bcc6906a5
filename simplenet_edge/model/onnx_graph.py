"""A module as an ONNX graph, by PyTorch's exporter: what an export to a bundle and an `Embedder` in a hurry share.

`onnx` and `onnxscript`, which the exporter needs, are imported when it is called, never when this module is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "onnx_graph"]

OPSET = 18
"""The oldest that PyTorch's exporter writes; TensorRT parses it since 8.6, which was built on ONNX 1.13."""


def onnx_graph(
    module: nn.Module, example: Tensor, input_name: str, output_names: Sequence[str], *, free_batch: bool
) -> onnx.ModelProto:
    """The graph of a module of one input for tensors like `example`; of any batch with `free_batch`, which is `batch`.

    Raises what the exporter raises, ImportError where its packages are missing.
    """
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the exporter's notes to its own developers
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=output_names,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if free_batch else None,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    return program.model_proto
