"""Score an archive with two bundles, an old and a new one, and say on a page what the new one would have changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simplenet_edge.archive.options import ScoreOptions
from simplenet_edge.archive.pictures import find_pictures, read_picture
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import open_engine
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.evaluation.backtest import Backtest, backtest, relative_scores, worst_flips
from simplenet_edge.evaluation.report.backtest_page import Flip, write_backtest_page
from simplenet_edge.files import require_writable, write_json
from simplenet_edge.imaging.decode import decode_image
from simplenet_edge.imaging.overlay import overlay
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.spec import Frames

if TYPE_CHECKING:
    from simplenet_edge.archive.score import ArchiveSummary

__all__ = ["PAGE_NAME", "SCORES_NAME", "backtest_archive"]

PAGE_NAME = "backtest.html"
SCORES_NAME = "scores.parquet"
_JSON_NAME = "backtest.json"
_PREFIXES = ("old_", "new_")
_SHOWN = 12  # pictures of each kind of flip


def backtest_archive(
    old: Bundle,
    new: Bundle,
    pictures: Sequence[str],
    folder: Path,
    options: ScoreOptions,
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> tuple[Backtest, ArchiveSummary]:
    """Score the pictures with both bundles in one pass, and write `scores.parquet`, `backtest.json` and `backtest.html`
    into `folder`. It goes on, and raises, as `score_archive` does; ConfigError for one bundle given twice.
    """
    from simplenet_edge.archive.score import score_archive

    if old.id == new.id:
        raise ConfigError(f"both bundles are {old.id}; name two different ones")
    require_writable(folder)
    path = folder / SCORES_NAME
    summary = score_archive(
        [old, new], pictures, path, options, prefixes=_PREFIXES, progress=progress, on_message=on_message
    )
    scores, rows, failed = _scores(path)
    records = old.record(options.precision), new.record(options.precision)
    found = backtest(*scores, (old.id, new.id), records, failed)
    relative = relative_scores(scores[0], records[0]), relative_scores(scores[1], records[1])
    places = worst_flips(*relative, _SHOWN)
    names = _paths(path, {int(rows[i]) for one in places for i in one})
    with ExitStack() as stack:
        detectors = [
            Detector(stack.enter_context(open_engine(bundle, options.engine, options.precision, options.threads)))
            for bundle in (old, new)
        ]
        flips = [
            [_flip(names[int(rows[i])], float(scores[0][i]), float(scores[1][i]), detectors) for i in one]
            for one in places
        ]
    write_json(folder / _JSON_NAME, found.to_dict())
    titles = old.path.resolve().stem, new.path.resolve().stem
    write_backtest_page(folder / PAGE_NAME, found, relative, (flips[0], flips[1]), titles)
    return found, summary


def _scores(path: Path) -> tuple[tuple[Any, Any], Any, int]:
    """The scores of both models, float64 `(n,)`, the rows that they are in, and how many rows have none."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=[f"{prefix}score" for prefix in _PREFIXES])
    columns = [np.asarray(column.to_numpy(), np.float64) for column in table.columns]  # NaN for none
    rows = np.flatnonzero(~np.isnan(columns[0]))
    return (columns[0][rows], columns[1][rows]), rows, table.num_rows - len(rows)


def _paths(path: Path, rows: set[int]) -> dict[int, str]:
    """The paths of pictures by their rows; the file is read piece by piece."""
    import pyarrow.parquet as pq

    found: dict[int, str] = {}
    first = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["path"]):
        found |= {row: batch[0][row - first].as_py() for row in rows if first <= row < first + batch.num_rows}
        first += batch.num_rows
    return found


def _flip(path: str, old_score: float, new_score: float, detectors: Sequence[Detector]) -> Flip:
    try:
        stores: list[Any] = []
        data = read_picture(next(iter(find_pictures([path], stores))), stores)
        views: list[tuple[str, Frames]] = []
        for name, detector in zip(("old", "new"), detectors, strict=True):
            found = detector.inspect(decode_image(data, detector.spec.bit_depth))
            heat = overlay(found.model_frame, found.map, found.map_threshold, found.normal_level)
            views += [("picture", found.model_frame)] if not views else []
            views.append((name, heat))
    except (ConfigError, DataError, EngineError, StopIteration) as error:
        return Flip(path, old_score, new_score, problem=f"can't be shown: {error}")
    return Flip(path, old_score, new_score, tuple(views))
