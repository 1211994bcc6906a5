"""`triton`: a bundle as a model of Triton Inference Server. No PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from simplenet_edge.cli.console import note, print_lines
from simplenet_edge.cli.options import BundleArgument, PrecisionOption

if TYPE_CHECKING:
    from simplenet_edge.serving.triton_repository import Backend

__all__ = ["triton"]


def triton(
    bundle: BundleArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model repository; models that are in it stay as they are.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the model; that in the bundle's manifest when left out.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Of the model; the next one when left out. Earlier ones stay.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option("--backend", help="onnxruntime; tensorrt takes the plan that `build` made on this device."),
    ] = "onnxruntime",
    precision: PrecisionOption = "fp32",
    max_batch: Annotated[
        int | None, typer.Option("--max-batch", help="Frames a call at most: as before, or 8, or what the plan takes.")
    ] = None,
) -> None:
    """Write a bundle into a model repository of Triton Inference Server, with golden frames to check it there."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.serving.triton_repository import write_model

    folder = write_model(
        Bundle(bundle),
        output,
        name=name,
        version=version,
        backend=cast("Backend", backend),
        precision=precision,
        max_batch=max_batch,
    )
    print_lines([str(folder)])
    note(f"tritonserver --model-repository={output}")
