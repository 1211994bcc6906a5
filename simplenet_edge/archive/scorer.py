"""What one worker does: it reads pictures, decodes them and has its engines score them.

In: a block, a row a picture with `path`, `source`, `store`, `bytes`, `mtime` and `data`, its content where the worker
can't reach it. Out: rows of `scored_schema`, and `fault` where the worker itself fails, which is no picture's fault.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import pyarrow as pa

from simplenet_edge.archive.pictures import Picture, read_picture
from simplenet_edge.archive.results import Model, scored_schema
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.errors import BundleError, DataError, EngineError, EngineInputError, SimpleNetEdgeError
from simplenet_edge.files import write_bytes
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.spec import Frames

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["ScoreJob", "Scorer"]

_READ_AHEAD = 8  # pictures that are read while others are computed


@dataclass(frozen=True)
class ScoreJob:
    """What a worker needs to know; it travels to each node, so that nothing but the pictures must be reached there."""

    models: tuple[Model, ...]
    bundles: tuple[bytes, ...]  # each model's, as a .zip
    engine: str
    threads: int | None
    batch: int  # frames of one call of the engine
    stores: tuple[AbstractFileSystem, ...]


class _Decoded(NamedTuple):
    """A picture's size, and its frame for each model."""

    width: int
    height: int
    frames: list[Frames]


class Scorer:
    """Scores blocks of pictures; its engines open with the first block."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job
        self._schema = scored_schema(job.models)
        self._detectors: list[Detector] = []
        self._pool = ThreadPoolExecutor(_READ_AHEAD)

    def __call__(self, block: pa.Table) -> pa.Table:
        """The rows of a block's pictures."""
        try:
            if not self._detectors:
                cv2.setNumThreads(self._job.threads or 1)
                self._detectors = [
                    _open(self._job, model, zipped)
                    for model, zipped in zip(self._job.models, self._job.bundles, strict=True)
                ]
            rows = self._score(block.to_pylist())
            fault = None
        except SimpleNetEdgeError as error:
            rows, fault = block.to_pylist(), f"{type(error).__name__}: {error}"
        found = pa.Table.from_pylist(rows, schema=self._schema)
        return found.append_column("fault", pa.array([fault] * found.num_rows, pa.string()))

    def _score(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        waiting: list[tuple[dict[str, Any], list[Frames]]] = []
        for row, decoded in zip(rows, self._decoded(rows), strict=True):
            if isinstance(decoded, SimpleNetEdgeError):
                row["error"] = str(decoded)
                continue
            row["width"], row["height"] = decoded.width, decoded.height
            waiting.append((row, decoded.frames))
            if len(waiting) == self._job.batch:
                self._infer(waiting)
                waiting = []
        if waiting:
            self._infer(waiting)
        return rows

    def _infer(self, batch: Sequence[tuple[dict[str, Any], list[Frames]]]) -> None:
        """Fill in the scores of a batch. Raises EngineError where the engine takes none of its frames."""
        for i, (model, detector) in enumerate(zip(self._job.models, self._detectors, strict=True)):
            try:
                detections = detector.infer([frames[i] for _, frames in batch])
            except EngineError as error:
                if len(batch) == 1:
                    raise
                self._infer_one_by_one(batch, error)
                return
            for (row, _), detection in zip(batch, detections, strict=True):
                row[f"{model.prefix}score"] = detection.score

    def _infer_one_by_one(self, batch: Sequence[tuple[dict[str, Any], list[Frames]]], error: EngineError) -> None:
        failed = 0
        for row, frames in batch:
            try:
                self._infer([(row, frames)])
            except EngineError as of_one:
                failed += 1
                row["error"] = str(of_one)
                row.update({f"{model.prefix}score": None for model in self._job.models})
        if failed == len(batch):
            raise error

    def _decoded(self, rows: Sequence[dict[str, Any]]) -> Iterator[_Decoded | SimpleNetEdgeError]:
        """Each picture's frames, or why it has none; the next ones are read meanwhile."""
        waiting: deque[Future[bytes]] = deque()
        for row in rows:
            waiting.append(self._pool.submit(self._read, row))
            if len(waiting) > _READ_AHEAD:
                yield self._decode(waiting.popleft())
        while waiting:
            yield self._decode(waiting.popleft())

    def _read(self, row: Mapping[str, Any]) -> bytes:
        if row["data"] is not None:
            return bytes(row["data"])
        picture = Picture(row["path"], row["source"], row["store"], row["bytes"])
        return read_picture(picture, self._job.stores)

    def _decode(self, read: Future[bytes]) -> _Decoded | SimpleNetEdgeError:
        images: dict[int, Frames] = {}  # by the bits used of 16
        try:
            data = read.result()
            frames = []
            for detector in self._detectors:
                depth = detector.spec.bit_depth
                if depth not in images:
                    images[depth] = decode_image(data, depth)
                frames.append(detector.prepare(images[depth]))
        except (DataError, EngineInputError) as error:
            return error
        height, width = images[depth].shape[:2]
        return _Decoded(width, height, frames)


def _open(job: ScoreJob, model: Model, zipped: bytes) -> Detector:
    """A detector of a bundle that travelled here, open to the end of the worker."""
    with tempfile.TemporaryDirectory(prefix="simplenet-bundle-") as folder:
        path = Path(folder) / "bundle.zip"
        write_bytes(path, zipped, sync=False)
        bundle = Bundle(path)
        if bundle.id != model.bundle_id:
            raise BundleError(f"expected the bundle {model.bundle_id}, {bundle.id} came to this node; run it again")
        return Detector(open_engine(bundle, job.engine, model.precision, job.threads).__enter__())
