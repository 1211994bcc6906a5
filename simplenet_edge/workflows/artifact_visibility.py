"""How small a defect a training run or a bundle sees, on the user's own good images, and the page that shows it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simplenet_edge.bundle import MANIFEST_NAME, Bundle, write_bundle
from simplenet_edge.data.layouts import load_dataset
from simplenet_edge.data.reading import fitting_batch
from simplenet_edge.data.samples import Sample
from simplenet_edge.engines.fastest import choose_fastest
from simplenet_edge.engines.selection import choose_engine, open_engine
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.evaluation.drawn_trials import Judge
from simplenet_edge.evaluation.report.visibility_page import write_visibility_page
from simplenet_edge.evaluation.visibility import Visibility, VisibilityConfig, measure_visibility
from simplenet_edge.files import disk_errors, require_writable, write_bytes, write_json
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.model.embedder import FastPredictor, FrameEmbedder
from simplenet_edge.progress import Progress, ignore
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.spec import Frames, InputSpec
from simplenet_edge.synthetic.sized_defects import SIZED_KINDS
from simplenet_edge.training.run import VISIBILITY_FOLDER, VISIBILITY_NAME, TrainingRun
from simplenet_edge.workflows.artifact import folder_beside, is_bundle

__all__ = ["PAGE_NAME", "MeasuredVisibility", "measure_artifact"]

PAGE_NAME = "visibility.html"
_MOST_IMAGES = 60
_MOST_BYTES = 512 * 2**20  # of all images together, which stay in memory
_BATCH = 8
_TRAINED_ON = (
    "Good parts were few, so the model was trained on these very images. It sees more on them than it will on new "
    "parts; name other good images with --good."
)


@dataclass(frozen=True)
class MeasuredVisibility:
    """What was measured, where the page is, what could not be read, and the new id of a bundle that holds it now."""

    visibility: Visibility
    page: Path
    left_out: tuple[str, ...]
    bundle_id: str | None


@dataclass(frozen=True)
class _Artifact:
    """A run or a bundle, ready to judge images."""

    judge: Judge
    threshold: float
    spec: InputSpec
    samples: tuple[Sample, ...]
    folder: Path  # where the page goes, unless another is named
    warnings: tuple[str, ...] = ()
    bundle: Bundle | None = None


def measure_artifact(
    model: Path,
    good: Path | None = None,
    folder: Path | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    config: VisibilityConfig | None = None,
    progress: Progress = ignore,
) -> MeasuredVisibility:
    """Draw defects on good images and see which of them the training run or bundle at `model` finds.

    The images are those in the folder `good`, or the calibration images of a run: at most 60, spread evenly, and at
    most 512 MiB of them. `folder` takes `visibility.html` and `visibility.json`; without it they go into the run, where
    `export` finds them, or beside the bundle. The figures also go into the manifest of the bundle, in the record of the
    precision, which gives it another id. Raises ConfigError for options that don't go with what `model` is, DataError
    where images or the disk refuse, BundleError.
    """
    config = config or VisibilityConfig()
    with _opened(model, good, engine, precision, config.draws * len(SIZED_KINDS)) as artifact:
        folder = folder or artifact.folder
        require_writable(folder)
        images, left_out = _images(artifact.samples, artifact.spec.bit_depth)
        size = fitting_batch(_BATCH, artifact.spec.size_hw)
        found = measure_visibility(artifact.judge, images, artifact.threshold, config, size, progress)
        title = model.resolve().stem
        write_visibility_page(folder / PAGE_NAME, found, images[len(images) // 2], title, artifact.warnings)
        write_json(folder / VISIBILITY_NAME, found.to_dict())
    bundle_id = None if artifact.bundle is None else _put_into(artifact.bundle, precision, found.figures())
    return MeasuredVisibility(found, folder / PAGE_NAME, tuple(left_out), bundle_id)


@contextmanager
def _opened(model: Path, good: Path | None, engine: str, precision: str, n_frames: int) -> Iterator[_Artifact]:
    """What is at `model`, to judge about `n_frames` images."""
    samples = None if good is None else load_dataset(good=good).train
    if is_bundle(model, engine, precision):
        if samples is None:
            raise ConfigError(f"{model} is a bundle, which holds no images; name good parts with --good FOLDER")
        bundle = Bundle(model)
        choice = choose_fastest(bundle, precision) if engine == "auto" else choose_engine(engine, precision)
        with open_engine(bundle, choice.name, precision, choice.threads) as opened:
            detector = Detector(opened)

            def inspect(images: Sequence[Frames]) -> Any:
                return np.array([detection.score for detection in detector.inspect_batch(images)])

            beside = folder_beside(model, VISIBILITY_FOLDER)
            yield _Artifact(inspect, detector.threshold, detector.spec, samples, beside, bundle=bundle)
        return
    run = TrainingRun.load(model)
    predictor = FastPredictor(run.model, FrameEmbedder(run.model, n_frames))
    spec, point = run.model.input_spec, run.operating_point

    def predict(images: Sequence[Frames]) -> Any:
        return predictor.predict(np.stack([preprocess(image, spec) for image in images])).score

    warnings = (_TRAINED_ON,) if samples is None and point.folds is not None else ()
    samples = run.images("calibration") if samples is None else samples
    yield _Artifact(predict, point.threshold, spec, samples, model / VISIBILITY_FOLDER, warnings)


def _images(samples: Sequence[Sample], bit_depth: int) -> tuple[list[Frames], list[str]]:
    """Some of the images, evenly spread, and why others can't be read."""
    images: list[Frames] = []
    left_out, size = [], 0
    for sample in samples[:: math.ceil(len(samples) / _MOST_IMAGES)]:
        try:
            image = read_image(sample.path, bit_depth)
        except DataError as error:
            left_out.append(str(error))
            continue
        size += image.nbytes
        if images and size > _MOST_BYTES:
            break
        images.append(image)
    return images, left_out


def _put_into(bundle: Bundle, precision: str, figures: dict[str, Any]) -> str:
    """Write the figures into the manifest, and return the bundle's new id; everything else stays as it is."""
    record = bundle.record(precision)
    record = dataclasses.replace(record, metrics={**record.metrics, "visibility": figures})
    manifest = dataclasses.replace(bundle.manifest, precisions={**bundle.manifest.precisions, precision: record})
    if bundle.path.is_dir():
        with disk_errors(bundle.path):
            write_bytes(bundle.path / MANIFEST_NAME, manifest.to_json().encode())
        return Bundle(bundle.path).id
    files = {name: bundle.read_bytes(name) for name in manifest.files}
    return write_bundle(bundle.path, manifest, files, overwrite=True).id
