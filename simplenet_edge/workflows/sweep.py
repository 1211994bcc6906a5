"""Train and measure every category with every seed, and say the mean and the spread.

In: datasets with labelled test images. Out: a training run in `FOLDER/<category>/seed-<k>` each, `sweep.json` and
`sweep.md`. What is finished is not done again, so that an interrupted sweep goes on with the same command.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from simplenet_edge.data.layouts import Dataset, Sample, is_mvtec, load_dataset
from simplenet_edge.data.reading import fingerprint
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.files import read_json, require_writable, write_json, write_text
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.trainer import train
from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact
from simplenet_edge.workflows.sweep_results import FIGURES, CategoryResult, Figures, Protocol, SeedResult, SweepResult

__all__ = ["Prepare", "find_categories", "sweep"]

Prepare = Callable[[Dataset, int], tuple[SimpleNet, TrainConfig]]
"""From a dataset and a seed to an untrained model and how to train it."""

_MEASURED_NAME = "measured.json"
_CURVE_NAME = "test-curve.json"
_NO_POINT = OperatingPoint(0.0, alpha=0.5, n_calibration=1, guaranteed=False)  # while training there is none


def find_categories(root: Path) -> tuple[Dataset, ...]:
    """The datasets in an MVTec-like root, a subfolder each, by name; or `root` itself where it is one.

    Raises DataError where there is none.
    """
    folders = [root] if is_mvtec(root) else [folder for folder in sorted(root.glob("[!.]*")) if is_mvtec(folder)]
    if not folders:
        raise DataError(f"{root}: expected train/good in it or in its subfolders, found neither; name another folder")
    return tuple(load_dataset(folder) for folder in folders)


def sweep(
    datasets: Sequence[Dataset],
    prepare: Prepare,
    folder: Path,
    *,
    seeds: int = 3,
    protocol: Protocol = "honest",
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> SweepResult:
    """Train and measure seeds 0 to `seeds - 1` of each dataset.

    `honest`: the last model is measured; no test image has a say. `paper`: besides, every meta-epoch is measured on the
    test images and the best one's figures are kept, as the official code does; they stand under their own label, and
    no model is chosen by them. A seed draws the split, the networks, the noise and the order.

    Raises ConfigError where `folder` holds runs of other options, DataError for a dataset without test images.
    """
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, not {seeds}")
    for dataset in datasets:
        if not dataset.test:
            raise DataError(f"{dataset.name} has no labelled test images; add test/<class> folders")
    require_writable(folder)
    results = []
    for dataset in datasets:
        runs = []
        for seed in range(seeds):
            on_message(f"{dataset.name}, seed {seed}")
            name = f"seed-{seed}" if protocol == "honest" else f"seed-{seed}-{protocol}"
            runs.append(_run(dataset, prepare, folder / dataset.name / name, seed, protocol, progress, on_message))
        results.append(CategoryResult(dataset.name, tuple(runs)))
    result = SweepResult(protocol, seeds, tuple(results))
    write_json(folder / "sweep.json", result.to_dict())
    write_text(folder / "sweep.md", result.markdown())
    return result


def _run(
    dataset: Dataset,
    prepare: Prepare,
    folder: Path,
    seed: int,
    protocol: Protocol,
    progress: Progress,
    on_message: OnMessage,
) -> SeedResult:
    model, config = prepare(dataset, seed)
    curve = _TestCurve(folder / _CURVE_NAME, dataset)
    watch = curve.measure if protocol == "paper" else None
    run = train(model, dataset.train, config, folder, resume=True, progress=progress, after_meta_epoch=watch)
    seconds = dataclasses.asdict(run.record.seconds)
    figures = _measured(folder, dataset, progress, on_message)
    if protocol == "honest":
        return SeedResult(seed, figures, seconds)
    best_meta_epoch, best = curve.best(run.record.meta_epochs)
    return SeedResult(seed, figures, seconds, best, best_meta_epoch)


def _measured(folder: Path, dataset: Dataset, progress: Progress, on_message: OnMessage) -> Figures:
    """The figures of a finished run, measured once for these test images; the report is left in the run.

    `on_message` is told each time of test images whose parts are in training.
    """
    key, path = _test_fingerprint(dataset), folder / _MEASURED_NAME
    found = read_json(path)
    if found is not None and found.get("test_fingerprint") == key:
        figures: Figures = found["figures"]
        if warning := found.get("parts_warning"):
            on_message(warning)
        return figures
    result, _ = evaluate_artifact(folder, dataset, progress=progress)
    figures, warning = _figures(result), result.parts_warning()
    write_json(path, {"test_fingerprint": key, "figures": figures, "parts_warning": warning})
    if warning:
        on_message(warning)
    return figures


class _TestCurve:
    """Figures on the test images after each meta-epoch, on disk: a resumed run keeps those from before."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._path = path
        self._dataset = dataset
        self._key = _test_fingerprint(dataset)

    def measure(self, model: SimpleNet, meta_epoch: int) -> None:
        values = self._values()
        values[str(meta_epoch)] = _figures(evaluate(model, self._dataset.test, model.input_spec, _NO_POINT))
        write_json(self._path, {"test_fingerprint": self._key, "meta_epochs": values})

    def best(self, meta_epochs: int) -> tuple[int, Figures]:
        """The first meta-epoch with the highest image AUROC, as the official code picks it. Raises ConfigError."""
        values = self._values()
        if set(values) != {str(number) for number in range(1, meta_epochs + 1)}:
            raise ConfigError(
                f"{self._path.parent}: not every meta-epoch was measured on these test images; remove that folder and "
                "run the sweep again"
            )
        chosen = max(range(1, meta_epochs + 1), key=lambda number: values[str(number)]["image_auroc"] or 0.0)
        return chosen, values[str(chosen)]

    def _values(self) -> dict[str, Figures]:
        found = read_json(self._path)
        values: dict[str, Figures] = (
            found["meta_epochs"] if found and found.get("test_fingerprint") == self._key else {}
        )
        return values


def _figures(result: Evaluation) -> Figures:
    return {
        figure: getattr(result.metrics, figure) if hasattr(result.metrics, figure) else getattr(result.verdicts, figure)
        for figure in FIGURES
    }


def _test_fingerprint(dataset: Dataset) -> str:
    masks = [Sample(path, name=sample.name) for sample in dataset.test for path in sample.mask_paths]
    return hashlib.sha256(f"{fingerprint(dataset.test)} {fingerprint(masks)}".encode()).hexdigest()
