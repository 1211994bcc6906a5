"""`export`: from a training run to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, resumable, warn
from simplenet_edge.cli.options import JsonOption, OverwriteOption, parse_camera
from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:
    from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Bundle folder, or one file where it ends in .zip; RUN.bundle when left out."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name in the manifest; that of the run's folder when left out, or of the images' if it is just run."
        ),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add an FP16 graph, compared with FP32.")] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Add an INT8 graph: the head learns on the backbone in INT8, about as long as train took, once.",
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="Good parts, not trained on, for the thresholds of --fp16 and --int8; the run's own when left out.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Dataset with labelled test images, on which --fp16 and --int8 are compared."),
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(
            "--frame",
            help="Camera frame, WIDTHxHEIGHT such as 1920x1080: the graph resizes it itself, for GPU engines.",
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print what was folded and what it costs.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fold a trained model into one ONNX graph, prove it equal, and write the bundle; FP16 and INT8 beside it."""
    from simplenet_edge.data.layouts import load_dataset
    from simplenet_edge.export.exporter import export_bundle
    from simplenet_edge.training.run import TrainingRun

    trained = TrainingRun.load(run)
    path = output or run.resolve().with_name(f"{run.resolve().name}.bundle")
    if explain and as_json:
        raise ConfigError("--explain prints tables and --json one object; pass one of them")
    if explain:
        _print_explanation(trained.model)
    precisions = [precision for precision, wanted in (("fp16", fp16), ("int8", int8)) if wanted]
    if not precisions and (calibration or data):
        raise ConfigError("--calibration and --data go with --fp16 or --int8; pass one of them")
    with resumable("the same command goes on with the training for INT8"), progress_bars() as bars:
        bundle = export_bundle(
            trained,
            path,
            name=name,
            frame_hw=parse_camera(frame) if frame else None,
            precisions=precisions,
            calibration=calibration,
            labelled=load_dataset(data) if data else None,
            overwrite=overwrite,
            on_message=note,
            progress=bars.report,
            on_loss=bars.loss,
        )
    parity = bundle.record().parity
    others = {precision: bundle.record(precision).parity for precision in precisions}
    for warning in dict.fromkeys(warning for record in others.values() for warning in record["warnings"]):
        warn(warning)
    if as_json:
        print_json({"bundle": str(path), "id": bundle.id, "parity": parity, "precisions": others})
        return
    rows: list[tuple[str, ...]] = [
        (key, f"{parity[key]['score_max']:.1e}", f"{parity[key]['map_max']:.1e}", str(parity[key]["verdict_flips"]))
        for key in ("folded", "onnx")
    ]
    print_table("Parity with the trained model", ("", "score, max", "map, max", "verdict flips"), rows)
    _print_precisions(others)
    note(f"bundle: {path} ({bundle.id})")


def _print_precisions(records: dict[str, dict[str, Any]]) -> None:
    """Each precision beside FP32, as the gate measured it."""
    from simplenet_edge.export.precision.acceptance import AcceptanceResult

    for precision, record in records.items():
        print_table(f"{precision} beside fp32", ("", "fp32", precision), AcceptanceResult(**record["gate"]).rows())
        note(_conclusion(precision, record))


def _conclusion(precision: str, record: dict[str, Any]) -> str:
    """What came of a precision, in one sentence."""
    from simplenet_edge.data.findings import listed

    gate, others, n_int8 = record["gate"], record["kept_float"], record["int8_layers"]
    made = (
        f"its backbone, head and memory compute in INT8, {n_int8} layers"
        if n_int8
        else "its head and backbone are FP16"
    )
    names = f", {len(others)} nodes stay in float32 ({listed([*others])})" if others else ""
    return (
        f"{precision} is as good as fp32: {made}{names}; "
        f"{gate['flips']} of {gate['n_images']} verdicts flip on {gate['images']} images"
    )


def _print_explanation(model: SimpleNet) -> None:
    """The cost of each layer of the head in each form, as a table."""
    from simplenet_edge.export.cost import as_written_cost, choose_forms, form_costs, memory_cost

    costs, chosen = form_costs(model), choose_forms(model)
    rows: list[tuple[str, ...]] = [
        (layer, *(f"{costs[form][i].macs / 1e6:.1f} / {costs[form][i].bytes / 1e6:.1f}" for form in costs), chosen[i])
        for i, layer in enumerate(model.config.layers)
    ]
    before = as_written_cost(model)
    memory = memory_cost(model)
    after = [*(costs[form][i] for i, form in enumerate(chosen)), memory]
    print_table("Head: million multiply-adds / MB moved, a frame", ("layer", *costs, "chosen"), rows)
    print_table(
        "In all",
        ("", "million multiply-adds", "MB moved"),
        [
            ("as written", f"{before.macs / 1e6:.1f}", f"{before.bytes / 1e6:.1f}"),
            ("folded", f"{sum(c.macs for c in after) / 1e6:.1f}", f"{sum(c.bytes for c in after) / 1e6:.1f}"),
            ("of these, the memory", f"{memory.macs / 1e6:.1f}", f"{memory.bytes / 1e6:.1f}"),
        ],
    )
