"""Commands for the workstation: train, evaluate, export, demo. They need PyTorch, and load it only when they run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_bars, warn
from simplenet_edge.cli.options import (
    CategoryOption,
    CsvOption,
    DataOption,
    DefectOption,
    EngineOption,
    GoodOption,
    JsonOption,
    MasksOption,
    OverwriteOption,
    PrecisionOption,
    dataset_from,
    parse_camera,
)
from simplenet_edge.cli.training_options import (
    AlphaOption,
    AugmentOption,
    BackboneOption,
    BudgetOption,
    DeviceOption,
    LayersOption,
    MemoryOption,
    MetaEpochsOption,
    NoiseOption,
    RandomWeightsOption,
    RecipeOption,
    ResizeOption,
    ResizeToOption,
    RotateOption,
    SizeOption,
    WeightsOption,
    prepared,
)
from simplenet_edge.errors import ConfigError
from simplenet_edge.model.defaults import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from simplenet_edge.evaluation.results import Evaluation
    from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["COMMANDS"]


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the training run.")],
    data: DataOption = None,
    good: GoodOption = None,
    csv: CsvOption = None,
    category: CategoryOption = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    layers: LayersOption = None,
    weights: WeightsOption = None,
    random_weights: RandomWeightsOption = False,
    size: SizeOption = None,
    resize: ResizeOption = None,
    resize_to: ResizeToOption = None,
    recipe: RecipeOption = "default",
    alpha: AlphaOption = 0.01,
    meta_epochs: MetaEpochsOption = None,
    noise_std: NoiseOption = None,
    memory: MemoryOption = None,
    augment: AugmentOption = 0,
    rotate: RotateOption = 0.0,
    budget: BudgetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of split, networks, noise and order.")] = 0,
    device: DeviceOption = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on images of good parts."""
    from simplenet_edge.threshold import guarantee_warning
    from simplenet_edge.training.trainer import train as run_training

    dataset = dataset_from(data, good, None, None, csv, category)
    network, config = prepared(
        seed,
        backbone=backbone,
        layers=layers,
        weights=weights,
        random_weights=random_weights,
        size=size,
        resize=resize,
        resize_to=resize_to,
        recipe=recipe,
        alpha=alpha,
        meta_epochs=meta_epochs,
        noise_std=noise_std,
        memory=memory,
        augment=augment,
        rotate=rotate,
        budget=budget,
        device=device,
    )
    with progress_bars() as bars:
        run = run_training(network, dataset.train, config, output, resume=resume, progress=bars.report)
    warn(guarantee_warning(run.operating_point))
    for corrupt in run.record.corrupt:
        warn(f"left out: {corrupt}")
    seconds = dataclasses.asdict(run.record.seconds)
    values = {"run": str(output), "operating_point": dataclasses.asdict(run.operating_point), **seconds}
    if as_json:
        print_json(values)
        return
    print_table(
        "Training run",
        ("", ""),
        [
            ("folder", str(output)),
            ("good images", f"{run.record.patches.images} + {run.operating_point.n_calibration} for calibration"),
            ("features, training", f"{seconds['extraction']:.1f} s, {seconds['training']:.1f} s"),
            ("threshold", f"{run.operating_point.threshold:.6g}"),
            (
                "false rejects",
                f"at most {run.operating_point.alpha:.2%}" if run.operating_point.guaranteed else "no guarantee",
            ),
        ],
    )


def evaluate(
    model: Annotated[Path, typer.Argument(help="A training run or a bundle.")],
    data: DataOption = None,
    good: GoodOption = None,
    defect: DefectOption = None,
    masks: MasksOption = None,
    csv: CsvOption = None,
    category: CategoryOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.html and evaluation.json; RUN/evaluation for a run."),
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled images and write an HTML report. Test images never move the threshold."""
    from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact

    dataset = dataset_from(data, good, defect, masks, csv, category)
    with progress_bars() as bars:
        result, report = evaluate_artifact(model, dataset, output, engine, precision, bars.report)
    if as_json:
        print_json(result.to_dict())
        return
    print_evaluation(result)
    note(f"report: {report}")


def print_evaluation(result: Evaluation) -> None:
    """The figures of an evaluation as a table."""

    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    rows = [
        (
            "all",
            str(len(result.images)),
            figure(result.metrics.image_auroc),
            figure(result.metrics.pixel_auroc),
            figure(result.metrics.aupro),
            figure(result.verdicts.recall),
        )
    ]
    rows += [
        (
            row.defect,
            str(row.n),
            figure(row.image_auroc),
            figure(row.pixel_auroc),
            figure(row.aupro),
            figure(row.recall),
        )
        for row in result.classes
    ]
    print_table("Evaluation", ("class", "images", "image AUROC", "pixel AUROC", "AUPRO", "recall"), rows)
    note(f"false rejects at the threshold: {figure(result.verdicts.false_reject_rate)}")


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
        typer.Option(help="Name in the manifest; the run's folder name when left out."),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add an FP16 graph, compared with FP32.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add an INT8 graph, calibrated and compared with FP32.")] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="Good parts, not trained on, for ranges and thresholds of --fp16 and --int8; the run's own when left "
            "out.",
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
        print_explanation(trained.model)
    precisions = [precision for precision, wanted in (("fp16", fp16), ("int8", int8)) if wanted]
    if not precisions and (calibration or data):
        raise ConfigError("--calibration and --data go with --fp16 or --int8; pass one of them")
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
    print_precisions(others)
    note(f"bundle: {path} ({bundle.id})")


def print_precisions(records: dict[str, dict[str, Any]]) -> None:
    """Each precision beside FP32, as the gate measured it."""
    from simplenet_edge.export.precision.acceptance import AcceptanceResult

    for precision, record in records.items():
        print_table(f"{precision} beside fp32", ("", "fp32", precision), AcceptanceResult(**record["gate"]).rows())
        if layers := record.get("layers_in_float"):
            note(f"{precision}: in float, to pass: {', '.join(layers)}")
        for node, reason in record["kept_float"].items():
            note(f"{precision}: {node} is in float32, {reason}")


def print_explanation(model: SimpleNet) -> None:
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


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that the demo makes.")] = Path(
        "demo-output"
    ),
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict of the backbone; downloaded, or random without a network, when left out."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make part images, train, evaluate, export, verify, benchmark and stream them: the whole product in minutes."""
    from simplenet_edge.workflows.demo import run_demo

    with progress_bars() as bars:
        result: dict[str, Any] = run_demo(output, weights, overwrite=overwrite, progress=bars.report, on_message=note)
    if as_json:
        print_json(result)
        return
    print_table("Demo", ("", ""), [(key, str(value)) for key, value in result.items()])


COMMANDS = (train, evaluate, export, demo)
