"""What a change of the light or of the camera's place does to a trained model, and when the drift monitor says so.

    python benchmarks/light.py --shared FOLDER --work FOLDER --variants augmented:augment=1,rotate_degrees=2

The default training, and each of `--variants`, NAME:KEY=VALUE,KEY=VALUE. Each test image, good or defective, is changed
at its own size, before the resize to the model's. For each change: the image AUROC of changed defective images against
changed good ones, the false rejects and the recall at the model's own threshold, and the first alarm of the drift
monitor on a stream of changed good images, shuffled and repeated up to `--frames`:

    installed   the change is there from the first frame on, so that only the scores can tell
    later       the monitor has learned from unchanged images, as many as it takes, before the change comes

A row for each set, variant, seed and change goes into `results/light.json`; rows that are there are not measured again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from runs import Rows, chosen_sets, parser, spread, table, trained, training_options
from sets import ImageSet

from simplenet_edge.data.reading import batched
from simplenet_edge.data.samples import Sample
from simplenet_edge.evaluation.metrics import image_auroc
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.runtime.drift.drift_monitor import DriftMonitor
from simplenet_edge.spec import Frames
from simplenet_edge.training.run import TrainingRun

FRAME_S = 0.1  # between the frames of the stream
BATCH = 8

Change = Callable[[Frames], Frames]
Scores = npt.NDArray[np.float32]


def brighter(image: Frames, factor: float) -> Frames:
    """All pixels times `factor`, cut off at white."""
    return _pixels(image * np.float32(factor))


def gamma(image: Frames, exponent: float) -> Frames:
    """Pixels in [0, 1] to the power of `exponent`: below 1 is lighter."""
    curve = _pixels(255 * (np.arange(256) / 255) ** exponent)
    return curve[image]


def gradient(image: Frames, share: float) -> Frames:
    """Darker by `share` at the left edge, lighter by it at the right one."""
    factors = np.linspace(1 - share, 1 + share, image.shape[1], dtype=np.float32)
    return _pixels(image * factors[None, :, None])


def shifted(image: Frames, share: float) -> Frames:
    """To the right by `share` of the width and down by `share` of the height; the edges are mirrored."""
    height, width = image.shape[:2]
    down, right = round(share * height), round(share * width)
    wide = cv2.copyMakeBorder(image, down, 0, right, 0, cv2.BORDER_REFLECT)
    return np.ascontiguousarray(wide[:height, :width], dtype=np.uint8)


def rotated(image: Frames, degrees: float) -> Frames:
    """Turned about the middle; the edges are mirrored."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Frames:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


CHANGES: dict[str, Change] = {
    "unchanged": lambda image: image,
    **{f"brightness x{factor}": partial(brighter, factor=factor) for factor in (0.7, 0.85, 1.15, 1.3)},
    **{f"gamma {exponent}": partial(gamma, exponent=exponent) for exponent in (0.8, 1.25)},
    "gradient of 15 % either way": partial(gradient, share=0.15),
    "shift of 2 %": partial(shifted, share=0.02),
    "rotation by 2 degrees": partial(rotated, degrees=2),
}


def looked_at(run: TrainingRun, samples: Sequence[Sample], change: Change) -> tuple[Frames, Scores]:
    """The changed images as model frames `(n, H, W, 3)`, and their raw scores `(n,)`."""
    spec = run.model.input_spec
    images = (change(read_image(sample.path, spec.bit_depth)) for sample in samples)
    frames = np.stack([preprocess(image, spec) for image in images])
    return frames, np.concatenate([run.model.predict(np.stack(batch)).score for batch in batched(frames, BATCH)])


def shuffled(frames: Frames, scores: Scores, seed: int) -> Iterator[tuple[Frames, float]]:
    """Frames with their scores without end, in a new order each time round."""
    rng = np.random.default_rng(seed)
    for i in itertools.chain.from_iterable(rng.permutation(len(frames)) for _ in itertools.count()):
        yield frames[i], float(scores[i])


def first_alarm(
    monitor: DriftMonitor,
    stream: Iterator[tuple[Frames, float]],
    before: Iterator[tuple[Frames, float]] | None,
    most: int,
) -> dict[str, Any] | None:
    """After how many frames of the stream an alarm stands, of at most `most`, and which; None without one.

    `before` is what the monitor learns from; without it, it learns from the stream itself.
    """
    learned = monitor.config.learn_frames if before is not None else 0
    frames = itertools.chain(itertools.islice(before or (), learned), stream)
    for i, (frame, score) in enumerate(itertools.islice(frames, learned + most), start=1):
        if alarms := monitor.observe(frame, score, FRAME_S * i, i):
            return {"frames": i - learned, "kind": alarms[0].kind, "text": alarms[0].text}
    return None


def measured(
    run: TrainingRun, images: ImageSet, change: Change, before: tuple[Frames, Scores], most: int, seed: int
) -> dict[str, Any]:
    """The row of one change; `before` are the good test images as they are, and their scores."""
    good_frames, good = looked_at(run, [sample for sample in images.dataset.test if sample.defect is None], change)
    _, defective = looked_at(run, [sample for sample in images.dataset.test if sample.defect is not None], change)
    labels = np.arange(len(good) + len(defective)) >= len(good)
    threshold = run.operating_point.threshold
    stream = (good_frames, good)

    def monitor() -> DriftMonitor:
        return DriftMonitor(run.operating_point, run.score_statistics)

    return {
        "image_auroc": image_auroc(np.concatenate([good, defective]), labels),
        "false_reject_rate": float(np.mean(good > threshold)),
        "recall": float(np.mean(defective > threshold)),
        "alarm": {
            "installed": first_alarm(monitor(), shuffled(*stream, seed), None, most),
            "later": first_alarm(monitor(), shuffled(*stream, seed), shuffled(*before, seed + 1), most),
        },
    }


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each set, variant and change, as a Markdown table."""
    keys = ("set", "variant", "change")
    lines = []
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in keys) == key]
        alarms = [", ".join(_alarm(row["alarm"][when]) for row in own) for when in ("installed", "later")]
        figures = [spread([row[name] for row in own]) for name in ("image_auroc", "false_reject_rate", "recall")]
        lines.append([*key, *figures, *alarms])
    head = [*keys, "image AUROC", "false rejects", "recall", "alarm if installed so", "alarm if it comes later"]
    return table(head, lines)


def _alarm(found: dict[str, Any] | None) -> str:
    return "none" if found is None else f"{found['kind']} after {found['frames']}"


def main() -> None:
    """Train, change, measure and write one row after the other."""
    cli = parser(__doc__, "light", seeds=1)
    cli.add_argument("--variants", nargs="*", default=[], metavar="NAME:KEY=VALUE,...", help="other trainings")
    cli.add_argument("--frames", type=int, default=2000, help="of the stream, at most")
    options = cli.parse_args()
    rows = Rows(options, "light", ("torch", "torchvision", "numpy", "opencv-python"), frames=options.frames)
    variants = {"default": list(options.options)}
    for variant in options.variants:
        name, _, pairs = variant.partition(":")
        variants[name] = [*options.options, *filter(None, pairs.split(","))]
    for name, images in chosen_sets(options):
        good = [sample for sample in images.dataset.test if sample.defect is None]
        for variant, seed in itertools.product(variants, range(options.seeds)):
            key = {"set": name, "variant": variant, "seed": seed}
            missing = [change for change in CHANGES if not rows.has(**key, change=change)]
            if not missing:
                continue
            training = training_options(variants[variant], images)
            run = trained(images.dataset.train, rows.folder / f"{name}-{variant}-{seed}", training, seed)
            before = looked_at(run, good, CHANGES["unchanged"])
            for change in missing:
                row = measured(run, images, CHANGES[change], before, options.frames, seed)
                rows.add(**key, change=change, pairs=variants[variant], **row)
    print(summary(rows.rows))


if __name__ == "__main__":
    main()
