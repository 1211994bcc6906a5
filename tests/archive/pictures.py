"""Pictures of drawn parts in folders, and what a Parquet file says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.runtime.detector import Detector
from tests.bundles import even_frames, with_spot


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Good parts, every fourth with a spot, as PNG files in two folders."""
    frames = even_frames(count, seed)
    frames[::4] = with_spot(frames[::4])
    paths = []
    for i, frame in enumerate(frames):
        path = folder / f"shift-{i % 2}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), frame)
        paths.append(path)
    return paths


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The rows by path; fails where one is there twice or the order is another."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    names = [row["path"] for row in rows]
    assert names == sorted(set(names))
    return {row["path"]: row for row in rows}


def scores_of(bundle: Bundle, paths: list[Path]) -> dict[str, float]:
    """What the detector says of each picture, one by one."""
    with open_engine(bundle, "onnxruntime", threads=1) as engine:
        detector = Detector(engine)
        return {str(path): detector.inspect(read_image(path)).score for path in paths}
