"""What is known of each picture, on disk: killed at any moment, nothing that was written is lost or there twice.

    scores.parquet           one row a picture, by path, written whole at the end
    scores.parquet.parts/    until then: 000001-<SHA-256>.parquet, ..., each written whole, and an index of them all

A part whose content doesn't have the SHA-256 in its name is damaged and counts as not there. The index is a database
that is made anew at each start, so that memory doesn't grow with the number of pictures.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simplenet_edge.archive.pictures import Picture
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.files import disk_errors, lock, write_bytes, write_file
from simplenet_edge.progress import OnMessage

__all__ = ["Model", "Results", "scored_schema"]

_KEY = b"simplenet-edge"  # of our entry in a Parquet file's metadata
_PART = re.compile(r"(\d{6,})-([0-9a-f]{64})\.parquet")
_ROWS = 65536  # of a row group, and of what is in memory at once
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Model:
    """Which model scores are of, and what its columns are called."""

    bundle_id: str
    precision: str
    threshold: float
    prefix: str = ""  # of its columns' names

    def columns(self) -> list[tuple[pa.Field, Any]]:
        """The columns after the score, each with its one value; None for the verdict."""
        return [
            (pa.field(f"{self.prefix}verdict", pa.string()), None),
            (pa.field(f"{self.prefix}threshold", pa.float64()), self.threshold),
            (pa.field(f"{self.prefix}bundle_id", pa.string()), self.bundle_id),
            (pa.field(f"{self.prefix}precision", pa.string()), self.precision),
        ]


def scored_schema(models: Sequence[Model]) -> pa.Schema:
    """What workers say of pictures, and what a part holds: a row a picture, without a score where there is an error."""
    fields = [
        pa.field("path", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("mtime", _TIME),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("error", pa.string()),
        *(pa.field(f"{model.prefix}score", pa.float64()) for model in models),
    ]
    return pa.schema(fields, metadata={_KEY: json.dumps([vars(model) for model in models])})


class Results:
    """The results of some models at `path`: what was there before, and what is added. Use it inside `with`.

    Raises ConfigError where `path` holds results of other models or another process is at work there, DataError for
    what can't be read or written.
    """

    def __init__(self, path: Path, models: Sequence[Model], on_message: OnMessage) -> None:
        self.path = path
        self.models = tuple(models)
        self._schema = scored_schema(models)
        self._folder = path.with_name(f"{path.name}.parts")
        self._on_message = on_message
        self._stack = ExitStack()
        self._parts = 0
        self._merged = False

    def __enter__(self) -> Results:
        if self.path.is_dir():
            raise ConfigError(f"{self.path} is a folder; name a file, such as scores.parquet")
        with disk_errors(self.path):
            self._folder.mkdir(parents=True, exist_ok=True)
        with self._stack:
            self._stack.enter_context(lock(self._folder / "lock"))
            with self._disk_errors():
                self._index = self._open_index()
                self._read_before()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()
        if self._merged or not self._parts:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._stack.close()

    def want(self, pictures: Iterable[Picture]) -> int:
        """Note the pictures that are to be in the result, each once, and return how many of them have no score yet.

        One that was changed since, by its size or time, counts as having none, and so does one with an error.
        """
        pictures = iter(pictures)
        with self._disk_errors():
            while batch := [
                (one.path, one.source, one.store, one.bytes, one.mtime_us) for one in islice(pictures, _ROWS)
            ]:
                self._index.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?, ?)", batch)
            self._index.execute(
                "INSERT INTO todo SELECT NULL, w.* FROM wanted w LEFT JOIN results r ON r.path = w.path WHERE "
                "r.path IS NULL OR r.error IS NOT NULL OR r.bytes IS NOT w.bytes OR r.mtime IS NOT w.mtime "
                "ORDER BY w.path"
            )
            return int(self._index.execute("SELECT COUNT(*) FROM todo").fetchone()[0])

    @property
    def wanted(self) -> int:
        """How many pictures are to be in the result."""
        return int(self._index.execute("SELECT COUNT(*) FROM wanted").fetchone()[0])

    def todo(self, start: int, count: int) -> list[Picture]:
        """Up to `count` of the pictures without a score, from number `start`, from 0."""
        rows = self._index.execute(
            "SELECT path, source, store, bytes, mtime FROM todo WHERE number > ? ORDER BY number LIMIT ?",
            (start, count),
        )
        return [Picture(*row) for row in rows]

    def add(self, rows: pa.Table) -> None:
        """Keep rows of `scored_schema`, on disk when this returns."""
        data = io.BytesIO()
        pq.write_table(rows.cast(self._schema).replace_schema_metadata(self._schema.metadata), data)
        self._parts += 1
        name = f"{self._parts:06d}-{hashlib.sha256(data.getvalue()).hexdigest()}.parquet"
        with self._disk_errors():
            write_bytes(self._folder / name, data.getvalue())
            self._remember(rows)

    def merge(self) -> None:
        """Write the result in one piece, by path; the parts go when the `with` ends."""
        if not self._parts and self.path.exists():
            return
        fields = list(self._schema.remove_metadata())
        columns = [column for model in self.models for column in model.columns()]
        schema = pa.schema([*fields, *(field for field, _ in columns)], metadata=self._schema.metadata)
        cursor = self._index.execute("SELECT * FROM results ORDER BY path")
        with self._disk_errors(), write_file(self.path) as file, pq.ParquetWriter(file, schema) as writer:
            while rows := cursor.fetchmany(_ROWS):
                arrays = [
                    pa.array(values, field.type) for field, values in zip(fields, zip(*rows, strict=True), strict=True)
                ]
                for model, scores in zip(self.models, arrays[-len(self.models) :], strict=True):
                    for field, value in model.columns():
                        values = _verdicts(scores, model.threshold) if field.name.endswith("verdict") else None
                        arrays.append(pa.repeat(pa.scalar(value, field.type), len(rows)) if values is None else values)
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._merged = True

    def count(self, condition: str) -> int:
        """How many of the wanted pictures have a row that an SQL condition on `results` holds for."""
        query = f"SELECT COUNT(*) FROM wanted JOIN results USING (path) WHERE {condition}"
        return int(self._index.execute(query).fetchone()[0])

    def errors(self, at_most: int) -> list[tuple[str, str]]:
        """The paths of the first of the wanted pictures without a score, and why."""
        query = "SELECT path, error FROM wanted JOIN results USING (path) WHERE error IS NOT NULL ORDER BY path LIMIT ?"
        return self._index.execute(query, (at_most,)).fetchall()

    def _open_index(self) -> sqlite3.Connection:
        file = self._folder / "index"
        file.unlink(missing_ok=True)
        index = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        index.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;")
        names = ", ".join(name for name in self._schema.names if name != "path")
        index.execute(f"CREATE TABLE results (path TEXT PRIMARY KEY, {names}) WITHOUT ROWID")
        columns = "source BLOB, store INTEGER, bytes INTEGER, mtime INTEGER"
        index.execute(f"CREATE TABLE wanted (path TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
        index.execute(f"CREATE TABLE todo (number INTEGER PRIMARY KEY, path TEXT, {columns})")
        return index

    def _read_before(self) -> None:
        if self.path.exists():
            try:
                file = pq.ParquetFile(self.path)
                self._require_same(file.schema_arrow, self.path)
                for batch in file.iter_batches(_ROWS, columns=self._schema.names):
                    self._remember(batch)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self.path} can't be read ({error}); remove it, or name another file") from error
        for part in sorted(self._folder.glob("*.parquet")):
            named = _PART.fullmatch(part.name)
            data = part.read_bytes()
            if named is None or hashlib.sha256(data).hexdigest() != named[2]:
                self._on_message(f"{part} is damaged; what it held is done again")
                part.unlink()
                continue
            table = pq.read_table(io.BytesIO(data))
            self._require_same(table.schema, part)
            self._remember(table)
            self._parts = int(named[1])

    def _require_same(self, schema: pa.Schema, path: Path) -> None:
        found = (schema.metadata or {}).get(_KEY)
        if found is None:
            raise ConfigError(f"{path} is not a result of this command; name another file")
        if found != self._schema.metadata[_KEY]:
            of = [", ".join(f"{model['bundle_id']} in {model['precision']}" for model in json.loads(found))]
            ours = ", ".join(f"{model.bundle_id} in {model.precision}" for model in self.models)
            raise ConfigError(f"{path} holds results of {of[0]}, these would be of {ours}; name another file")

    def _remember(self, rows: pa.Table | pa.RecordBatch) -> None:
        columns = [
            rows.column(field.name).cast(pa.int64()) if field.type == _TIME else rows.column(field.name)
            for field in self._schema
        ]
        marks = ", ".join("?" * len(columns))
        values = zip(*(column.to_pylist() for column in columns), strict=True)
        self._index.executemany(f"INSERT OR REPLACE INTO results VALUES ({marks})", values)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise DataError for what the disk or the index refuses."""
        try:
            with disk_errors(self.path):
                yield
        except sqlite3.Error as error:
            raise DataError(f"{self._folder} can't be written ({error}); free some space, or name another") from error


def _verdicts(scores: pa.Array, threshold: float) -> pa.Array:
    """NG above the threshold, OK otherwise, none without a score."""
    import pyarrow.compute as pc

    return pc.if_else(pc.greater(scores, threshold), "NG", "OK")
