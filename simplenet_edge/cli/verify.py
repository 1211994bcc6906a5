"""`verify`: replay a bundle's golden frames on this device. No PyTorch."""

from __future__ import annotations

from simplenet_edge.cli.console import note, print_json, print_table
from simplenet_edge.cli.options import BundleArgument, EngineOption, JsonOption, PrecisionOption, ThreadsOption

__all__ = ["verify"]


def verify(
    bundle: BundleArgument,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the golden frames and compare: does this device compute what the workstation did?"""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.selection import open_engine
    from simplenet_edge.engines.verify import verify as replay

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
