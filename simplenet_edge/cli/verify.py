"""`verify`: replay a bundle's golden frames on this device. No PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_table
from simplenet_edge.cli.options import BundleArgument, EngineOption, JsonOption, PrecisionOption, ThreadsOption

if TYPE_CHECKING:
    from simplenet_edge.bundle import Bundle

__all__ = ["verify"]

_SHOWN = 10  # of the tensors


def verify(
    bundle: BundleArgument,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Compare every tensor with ONNX Runtime's, and name the first that drifts."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Replay the golden frames and compare: does this device compute what the workstation did?"""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.engines.verify import verify as replay

    if layers:
        _verify_layers(Bundle(bundle), engine, precision, as_json)
        return
    with open_engine(Bundle(bundle), engine, precision, threads) as opened:
        result = replay(opened)
    if as_json:
        print_json(result.to_dict())
    else:
        rows = [
            (
                str(frame.index),
                f"{frame.expected_score:.6g}",
                f"{frame.found_score:.6g}",
                f"{frame.score_difference / result.scale:.1e}",
                f"{frame.map_difference / result.scale:.1e}",
            )
            for frame in result.frames
        ]
        columns = ("golden frame", "score, bundle", "score, here", "score difference", "map difference")
        print_table(f"{result.engine} ({result.provider}), {result.precision}", columns, rows)
        note(f"allowed: {result.tolerance:.0e} of the scale; {'passed' if result.passed else 'FAILED'}")
    result.require()


def _verify_layers(bundle: Bundle, engine: str, precision: str, as_json: bool) -> None:
    """Every tensor of the first golden frame; those that differ most are shown."""
    from simplenet_edge.engines.layers import compare_layers

    frames, _ = bundle.golden(precision)
    name = "onnxruntime" if engine == "auto" else engine
    found = compare_layers(bundle.graph(precision), frames[:1], name, precision)
    if as_json:
        print_json(found.to_dict())
    else:
        worst = sorted(found.layers, key=lambda row: -row.difference)[:_SHOWN]
        rows = [(row.tensor, f"{row.difference:.1e}") for row in worst]
        print_table(f"{name}, {precision}: {len(found.layers)} tensors", ("tensor", "difference"), rows)
        note(f"allowed: {found.allowed:.0e} of a tensor's spread; {'FAILED' if found.first else 'passed'}")
    found.require()
