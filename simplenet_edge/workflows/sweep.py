"""Train and measure every category with every seed, and say the mean and the spread.

In: datasets with labelled test images. Out: a training run in `FOLDER/<category>/seed-<k>` each, `sweep.json` and
`sweep.md`. What is finished is not done again, so that an interrupted sweep goes on with the same command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.data.layouts import Dataset, Sample, is_mvtec, load_dataset
from simplenet_edge.data.reading import fingerprint
from simplenet_edge.errors import ConfigError, DataError, SimpleNetEdgeError
from simplenet_edge.evaluation.evaluator import evaluate
from simplenet_edge.evaluation.results import Evaluation
from simplenet_edge.files import read_json, require_writable, write_json, write_text
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.spec import OperatingPoint
from simplenet_edge.system import cpu_count
from simplenet_edge.training.config import TrainConfig
from simplenet_edge.training.trainer import train
from simplenet_edge.workflows.evaluate_artifact import evaluate_artifact
from simplenet_edge.workflows.sweep_results import FIGURES, CategoryResult, Figures, Protocol, SeedResult, SweepResult

__all__ = ["Prepare", "SweepCluster", "find_categories", "sweep"]


@dataclass(frozen=True)
class SweepCluster:
    """A Ray cluster to train on, and what each run takes of it."""

    address: str  # local: this machine, for as long as it takes
    threads: int = 1  # of PyTorch, a processor each
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"threads must be at least 1, not {self.threads}")


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
    cluster: SweepCluster | None = None,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> SweepResult:
    """Train and measure seeds 0 to `seeds - 1` of each dataset.

    `honest`: the last model is measured; no test image has a say. `paper`: besides, every meta-epoch is measured on the
    test images and the best one's figures are kept, as the official code does; they stand under their own label, and
    no model is chosen by them. A seed draws the split, the networks, the noise and the order.
    With `cluster` the seeds are trained side by side, with the same figures for the same number of threads; where some
    fail, the others are finished before the error is raised.

    Raises ConfigError where `folder` holds runs of other options, DataError for a dataset without test images.
    """
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, not {seeds}")
    for dataset in datasets:
        if not dataset.test:
            raise DataError(f"{dataset.name} has no labelled test images; add test/<class> folders")
    require_writable(folder)
    tasks = []
    for dataset in datasets:
        for seed in range(seeds):
            name = f"seed-{seed}" if protocol == "honest" else f"seed-{seed}-{protocol}"
            tasks.append(_Task(dataset, folder / dataset.name / name, seed, protocol))
    if cluster is None:
        runs = [_run(task, prepare, progress, on_message) for task in tasks]
    else:
        for dataset in datasets:
            prepare(dataset, 0)  # what is looked for once per dataset is found before the tasks would all do so
        runs = _run_on_cluster(tasks, prepare, cluster, progress, on_message)
    results = [
        CategoryResult(dataset.name, tuple(runs[i * seeds : (i + 1) * seeds])) for i, dataset in enumerate(datasets)
    ]
    result = SweepResult(protocol, seeds, tuple(results))
    write_json(folder / "sweep.json", result.to_dict())
    write_text(folder / "sweep.md", result.markdown())
    return result


@dataclass(frozen=True)
class _Task:
    """One seed of one dataset, and the folder of its run."""

    dataset: Dataset
    folder: Path
    seed: int
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.dataset.name}, seed {self.seed}"


def _run(task: _Task, prepare: Prepare, progress: Progress, on_message: OnMessage) -> SeedResult:
    on_message(str(task))
    dataset, folder, seed, protocol = task.dataset, task.folder, task.seed, task.protocol
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


def _run_on_cluster(
    tasks: Sequence[_Task], prepare: Prepare, cluster: SweepCluster, progress: Progress, on_message: OnMessage
) -> list[SeedResult]:
    """All tasks as tasks of Ray; when some fail, the others are finished first."""
    from simplenet_edge.archive.cluster import cluster_resources, ray_cluster, run_tasks

    threads, gpus = cluster.threads, cluster.gpus
    done: dict[int, SeedResult] = {}
    failed: dict[int, Exception] = {}
    with ray_cluster(cluster.address, max(cpu_count(), threads)):
        most = cluster_resources()
        if threads > most[0] or gpus > most[1]:
            raise ConfigError(
                f"a run takes {threads} processors and {gpus} GPUs, the cluster has {most[0]} and {most[1]}; ask for "
                "fewer --threads, or train on the CPU"
            )
        jobs = [(task, prepare, threads, os.getcwd()) for task in tasks]
        for i, found in run_tasks(_run_on_node, jobs, threads, gpus):
            if isinstance(found, Exception):
                failed[i] = found
                on_message(f"{tasks[i]} failed: {found}")
            else:
                done[i], messages = found
                for message in messages:
                    on_message(message)
            progress("runs", len(done) + len(failed), len(tasks))
    if failed:
        first, error = min(failed.items())
        text = f"{tasks[first]}: {error}" + (f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else "")
        raise (type(error) if isinstance(error, SimpleNetEdgeError) else SimpleNetEdgeError)(text) from error
    return [done[i] for i in range(len(tasks))]


def _run_on_node(task: _Task, prepare: Prepare, threads: int, cwd: str) -> tuple[SeedResult, list[str]]:
    """One task in a process of a cluster: its result, and what it has to say. Raises DataError for missing files."""
    import torch

    with suppress(OSError):
        os.chdir(cwd)  # relative paths are the caller's
    for path in (task.dataset.test[0].path, task.folder.parents[1]):
        if not path.exists():
            raise DataError(
                f"{path} is not there on the node {platform.node()}; a sweep on several machines needs the images and "
                "the output folder on a file system that all of them share, under the same paths"
            )
    torch.set_num_threads(threads)
    messages: list[str] = []
    return _run(task, prepare, ignore, messages.append), messages


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
