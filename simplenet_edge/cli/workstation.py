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
    parse_layers,
    parse_size,
)
from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:
    from simplenet_edge.evaluation_results import Evaluation
    from simplenet_edge.model.simplenet import SimpleNet

__all__ = ["COMMANDS"]


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the training run.")],
    data: DataOption = None,
    good: GoodOption = None,
    csv: CsvOption = None,
    category: CategoryOption = None,
    backbone: Annotated[str, typer.Option(help="Any torchvision classifier.")] = "wide_resnet50_2",
    layers: Annotated[
        str | None,
        typer.Option(help="Module paths with commas between, e.g. layer2,layer3 or features.6."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict of the backbone; torchvision's ImageNet weights when left out."),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option(help="A random backbone from --seed: works without a network, finds less.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Model input: 256, or HEIGHTxWIDTH in pixels."),
    ] = None,
    resize_to: Annotated[
        int | None,
        typer.Option(help="Scale the shorter side to this and cut the middle, instead of stretching."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="default, or paper: raw features, noise 0.015, 40 x 4 epochs.")
    ] = "default",
    alpha: Annotated[float, typer.Option(help="Share of good parts that may be rejected, guaranteed.")] = 0.01,
    meta_epochs: Annotated[
        int | None,
        typer.Option(help="Meta-epochs of 4 epochs each."),
    ] = None,
    noise_std: Annotated[
        float | None,
        typer.Option(help="Noise in units of the features' spread."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of split, networks, noise and order.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on images of good parts."""
    import torch

    from simplenet_edge.model.build import build_simplenet
    from simplenet_edge.threshold import guarantee_warning
    from simplenet_edge.training import TrainConfig, paper_recipe
    from simplenet_edge.training import train as run_training

    if recipe not in ("default", "paper"):
        raise ConfigError(f"recipe must be default or paper, not {recipe!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is usable here; leave --device out to train on the CPU")
    dataset = dataset_from(data, good, None, None, csv, category)
    model = build_simplenet(
        backbone,
        layers=parse_layers(layers) if layers else None,
        weights=weights,
        random_weights=random_weights,
        size_hw=parse_size(size) if size else None,
        resize_to=resize_to,
        standardize=recipe != "paper",
        seed=seed,
    )
    config = TrainConfig(alpha=alpha, seed=seed)
    if recipe == "paper":
        config = paper_recipe(config, model.grid_hw)
    if meta_epochs is not None:
        config = dataclasses.replace(config, meta_epochs=meta_epochs)
    if noise_std is not None:
        config = dataclasses.replace(config, noise_std=noise_std)
    with progress_bars() as bars:
        run = run_training(model.to(device), dataset.train, config, output, resume=resume, progress=bars.report)
    warn(guarantee_warning(run.operating_point))
    for corrupt in run.record["corrupt"]:
        warn(f"left out: {corrupt}")
    values = {"run": str(output), "operating_point": dataclasses.asdict(run.operating_point), **run.record["seconds"]}
    if as_json:
        print_json(values)
        return
    seconds = run.record["seconds"]
    print_table(
        "Training run",
        ("", ""),
        [
            ("folder", str(output)),
            ("good images", f"{run.record['patches']['images']} + {run.operating_point.n_calibration} for calibration"),
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
    from simplenet_edge.assessment import assess

    dataset = dataset_from(data, good, defect, masks, csv, category)
    with progress_bars() as bars:
        result, report = assess(
            model, dataset, output, engine, precision, lambda done, total: bars.report("evaluation", done, total)
        )
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
    explain: Annotated[bool, typer.Option("--explain", help="Print what was folded and what it costs.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fold a trained model into one ONNX graph, prove it equal, and write the bundle."""
    from simplenet_edge.export.exporter import export_bundle
    from simplenet_edge.training_run import TrainingRun

    trained = TrainingRun.load(run)
    path = output or run.with_name(f"{run.name}.bundle")
    if explain:
        print_explanation(trained.model)
    bundle = export_bundle(trained, path, name=name, overwrite=overwrite, progress=note)
    parity = bundle.record().parity
    if as_json:
        print_json({"bundle": str(path), "id": bundle.id, "parity": parity})
        return
    rows: list[tuple[str, ...]] = [
        (key, f"{parity[key]['score_max']:.1e}", f"{parity[key]['map_max']:.1e}", str(parity[key]["verdict_flips"]))
        for key in ("folded", "onnx")
    ]
    print_table("Parity with the trained model", ("", "score, max", "map, max", "verdict flips"), rows)
    note(f"bundle: {path} ({bundle.id})")


def print_explanation(model: SimpleNet) -> None:
    """The cost of each layer of the head in each form, as a table."""
    from simplenet_edge.export.cost import as_written_cost, choose_forms, form_costs

    costs, chosen = form_costs(model), choose_forms(model)
    rows: list[tuple[str, ...]] = [
        (layer, *(f"{costs[form][i].macs / 1e6:.1f} / {costs[form][i].bytes / 1e6:.1f}" for form in costs), chosen[i])
        for i, layer in enumerate(model.config.layers)
    ]
    before = as_written_cost(model)
    written = f"{before.macs / 1e6:.1f} / {before.bytes / 1e6:.1f}"
    title = f"Head, million multiply-adds / MB moved a frame; as written: {written}"
    print_table(title, ("layer", *costs, "chosen"), rows)


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
    from simplenet_edge.demo import run_demo

    with progress_bars() as bars:
        result: dict[str, Any] = run_demo(output, weights, overwrite=overwrite, progress=bars.report, tell=note)
    if as_json:
        print_json(result)
        return
    print_table("Demo", ("", ""), [(key, str(value)) for key, value in result.items()])


COMMANDS = (train, evaluate, export, demo)
