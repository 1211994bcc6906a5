"""Score an archive of pictures with one model or several, so that it can be interrupted and go on.

In: bundles, and words that name pictures. Out: one Parquet file with a row a picture. What was scored before for the
same models stays; pictures that are new, changed, or could not be scored are done.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from simplenet_edge import errors
from simplenet_edge.archive.cluster import cluster_resources, map_blocks, ray_cluster
from simplenet_edge.archive.options import ScoreOptions
from simplenet_edge.archive.pictures import Picture, find_pictures, is_in_this_process, read_picture
from simplenet_edge.archive.results import Model, Results, scored_schema
from simplenet_edge.archive.scorer import ScoreJob, Scorer
from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import choose_engine, needs_gpu, open_engine, takes_threads
from simplenet_edge.errors import ConfigError, DataError, EngineError
from simplenet_edge.files import require_writable
from simplenet_edge.progress import OnMessage, Progress, ignore, ignore_message
from simplenet_edge.system import cpu_count

__all__ = ["ArchiveSummary", "score_archive"]

_BLOCK = 64  # pictures that a worker takes at a time: seconds of work, and what a kill costs
_ROUND = 50_000  # pictures per worker whose names are in memory at once; workers start anew with each round
_LARGEST_ROUND = 1_000_000
_PART_ROWS, _PART_S = 4096, 2.0  # what was scored is written after so many pictures, or after so long
_NAMED = 20  # pictures without a score that a summary names
_ALL_UNREADABLE = 256  # so many of the first pictures, all of them: it is the store, or a path that nodes don't have


@dataclass(frozen=True)
class ArchiveSummary:
    """What is known of the pictures that were named. `ok` and `ng` are by the last of the models."""

    path: Path
    pictures: int
    scored: int  # of them in this call
    ok: int
    ng: int
    failed: int  # without a score
    errors: tuple[tuple[str, str], ...]  # the first of those: path and reason

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "output": str(self.path),
            **{name: getattr(self, name) for name in ("pictures", "scored", "ok", "ng", "failed")},
            "errors": [{"path": path, "error": error} for path, error in self.errors],
        }


def score_archive(
    bundles: Sequence[Bundle],
    pictures: Sequence[str],
    output: Path,
    options: ScoreOptions | None = None,
    *,
    prefixes: Sequence[str] = ("",),
    progress: Progress = ignore,
    on_message: OnMessage = ignore_message,
) -> ArchiveSummary:
    """Score the pictures that the words name (`find_pictures`) with each bundle, into the Parquet file `output`.

    `prefixes` come before the names of each bundle's columns. A picture that can't be read or decoded is a row with an
    `error` and without a score. Raises ConfigError, DataError, BundleError or EngineError; what was scored until then
    is kept for the next call.
    """
    options = options or ScoreOptions()
    engine = choose_engine(options.engine, options.precision).name
    threads = (options.threads or 1) if takes_threads(engine) else options.threads
    models = []
    for bundle, prefix in zip(bundles, prefixes, strict=True):
        open_engine(bundle, engine, options.precision, threads)  # refuses what it can't take
        record = bundle.record(options.precision)
        models.append(Model(bundle.id, options.precision, record.operating_point.threshold, prefix))
    require_writable(output.absolute().parent)
    stores: list[Any] = []
    with Results(output, models, on_message) as results:
        left = results.want(find_pictures(pictures, stores))
        if not results.wanted:
            raise DataError(f"no pictures in {', '.join(pictures)}; name a folder, glob or store that holds some")
        if results.wanted > left:
            on_message(f"{results.wanted - left} of {results.wanted} pictures are scored already")
        if left:
            zipped = tuple(bundle.zipped() for bundle in bundles)
            job = ScoreJob(tuple(models), zipped, engine, threads, options.batch, tuple(stores))
            _score(results, job, options, left, progress, on_message)
        results.merge()
        failed = results.count("error IS NOT NULL")
        ng = results.count(f"{models[-1].prefix}score > {models[-1].threshold!r}")
        ok = results.wanted - failed - ng
        return ArchiveSummary(output, results.wanted, left, ok, ng, failed, tuple(results.errors(_NAMED)))


def _score(
    results: Results, job: ScoreJob, options: ScoreOptions, left: int, progress: Progress, on_message: OnMessage
) -> None:
    """Score what `results` has no score of, and keep it there."""
    gpus = int(needs_gpu(job.engine))
    cpus = job.threads or 1
    own = options.workers or max(1, cpu_count() // cpus)
    with ray_cluster(options.ray, None if gpus else max(cpu_count(), own * cpus)):
        workers = min(_workers(options.workers, cpus, gpus), -(-left // _BLOCK))
        on_message(f"{left} pictures, {workers} workers: {job.engine}, {options.precision}, batches of {options.batch}")
        done, read, keeper = 0, False, _Keeper(results)
        try:
            with closing(_scored(results, job, left, workers, cpus, gpus)) as scored:
                for rows in scored:
                    keeper.add(rows)
                    done += rows.num_rows
                    read = read or _any_read(rows)
                    if not read and (done >= _ALL_UNREADABLE or (done == left and job.stores)):
                        raise DataError(
                            f"none of {done} pictures could be read where the workers are, the first is "
                            f"{rows['path'][0]}: {rows['error'][0]}"
                        )
                    progress("scoring", done, left)
        finally:
            keeper.flush()


def _workers(asked: int | None, cpus: int, gpus: int) -> int:
    """How many workers the cluster has room for, or as many as were asked for. Raises ConfigError."""
    all_cpus, all_gpus = cluster_resources()
    most = all_gpus if gpus else all_cpus // cpus
    workers = asked or most
    if not 1 <= workers <= most:
        what = "a GPU" if gpus else f"{cpus} of its {all_cpus} processors"
        raise ConfigError(f"a worker takes {what}, the cluster has room for {most}, not for {workers}; ask for fewer")
    return workers


def _scored(
    results: Results, job: ScoreJob, left: int, workers: int, cpus: int, gpus: int
) -> Generator[pa.Table, None, None]:
    """Rows as workers give them, round by round. Raises what a worker failed with."""
    size = min(workers * _ROUND, _LARGEST_ROUND)
    for start in range(0, left, size):
        blocks = list(_blocks(results, job, start, min(size, left - start)))
        with closing(map_blocks(Scorer, job, blocks, workers, cpus, gpus)) as found:  # it ends before Ray does
            for rows in found:
                _raise_fault(rows)
                yield rows.select(scored_schema(job.models).names)


class _Keeper:
    """Gathers rows for parts that are worth a file."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._rows: list[pa.Table] = []
        self._written_s = 0.0

    def add(self, rows: pa.Table) -> None:
        self._rows.append(rows)
        if sum(table.num_rows for table in self._rows) >= _PART_ROWS or time.monotonic() - self._written_s >= _PART_S:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._rows:
            self._results.add(pa.concat_tables(self._rows))
        self._rows, self._written_s = [], time.monotonic()


def _blocks(results: Results, job: ScoreJob, start: int, count: int) -> Iterator[pa.Table]:
    schema = pa.schema(
        {
            "path": pa.string(),
            "source": pa.binary(),
            "store": pa.int32(),
            "bytes": pa.int64(),
            "mtime": pa.timestamp("us", tz="UTC"),
            "data": pa.binary(),
        }
    )
    for first in range(start, start + count, _BLOCK):
        pictures = results.todo(first, min(_BLOCK, start + count - first))
        columns = [
            [picture.path for picture in pictures],
            [picture.source for picture in pictures],
            [picture.store for picture in pictures],
            [picture.bytes for picture in pictures],
            [picture.mtime_us for picture in pictures],
            [_data(picture, job.stores) for picture in pictures],
        ]
        yield pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
        )


def _data(picture: Picture, stores: Sequence[Any]) -> bytes | None:
    """The content of a picture that the workers can't reach."""
    if picture.store is None or not is_in_this_process(stores[picture.store]):
        return None
    try:
        return read_picture(picture, stores)
    except DataError:  # the worker finds so too, and says it in the picture's row
        return None


def _any_read(rows: pa.Table) -> bool:
    """Whether any of the pictures could be read, be it damaged."""
    return any(not (error or "").startswith("can't be read") for error in rows["error"].to_pylist())


def _raise_fault(rows: pa.Table) -> None:
    """Raise what a worker failed with, as the error that it was there."""
    fault = rows["fault"][0].as_py()
    if fault is not None:
        name, _, text = fault.partition(": ")
        raise getattr(errors, name, EngineError)(text)
