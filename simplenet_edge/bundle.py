"""The bundle: the one artifact that travels from the workstation to the device. No pickle anywhere.

A folder, or one `.zip` of the same files:

    manifest.json        what `Manifest` holds, with the SHA-256 of every other file
    model.fp32.onnx      frames uint8 (B, H, W, 3) BGR -> score float32 (B,), map float32 (B, H, W)
    model.fp16.onnx, model.int8.onnx    the same contract, where they were exported
    golden/frames.npy    a few frames as the graphs take them, uint8 (N, *frame_hw, 3) ...
    golden/score.npy     ... with their FP32 scores (N,) ...
    golden/map.npy       ... and maps (N, H, W): what `verify` replays on the device
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import BundleError, ConfigError
from simplenet_edge.spec import (
    Frames,
    InputSpec,
    OperatingPoint,
    Prediction,
    ScoreStatistics,
    SimpleNetConfig,
    from_dict,
    to_dict,
)

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Bundle",
    "Manifest",
    "PrecisionRecord",
    "golden_files",
    "npy_bytes",
    "write_bundle",
]

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class PrecisionRecord:
    """One graph of a bundle with its evidence: a threshold belongs to the precision whose scores it came from.

    `graph` is the ONNX file. `tolerance` is how far scores and maps of the golden frames may be from the FP32 ones, as
    a share of the golden maps' range: what `verify` allows. `metrics` are the evaluation figures, empty when no
    labelled images were given. `parity` is the proof of export.
    """

    graph: str
    operating_point: OperatingPoint
    score_statistics: ScoreStatistics
    tolerance: float
    metrics: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.graph, str):
            raise ConfigError(f"graph must be a file name, not {self.graph!r}")
        if not isinstance(self.tolerance, (int, float)) or not 0 <= self.tolerance < float("inf"):
            raise ConfigError(f"tolerance must be a number of at least 0, not {self.tolerance!r}")


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    `precisions` always has `fp32`, the reference of all others. `frame_hw` is the size of the camera frames that the
    graphs take and resize themselves; None where they take model frames, of `input`'s size. `versions` are the
    libraries that wrote it; `files` is the SHA-256 of every file but the manifest.
    """

    name: str
    created: str
    model: SimpleNetConfig
    input: InputSpec
    precisions: dict[str, PrecisionRecord]
    frame_hw: tuple[int, int] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("versions", "files"):
            values = getattr(self, name)
            if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
                raise ConfigError(f"{name} must map names to text, not {values!r}")
        if self.frame_hw is not None and not _is_size(self.frame_hw):
            raise ConfigError(f"frame_hw must be two positive numbers or null, not {self.frame_hw!r}")
        if "fp32" not in self.precisions:
            raise ConfigError(f"precisions must have fp32, found {', '.join(sorted(self.precisions)) or 'none'}")

    def to_json(self) -> str:
        """The manifest as indented JSON text."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.update(model=to_dict(self.model), input=to_dict(self.input))
        values["precisions"] = {name: dataclasses.asdict(record) for name, record in self.precisions.items()}
        return json.dumps(values, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote. Raises BundleError where it is damaged or from a newer version."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise BundleError(f"{MANIFEST_NAME} is not JSON ({error}); copy the bundle again") from error
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise BundleError(f"{MANIFEST_NAME} has no schema number; this is not a bundle of simplenet-edge")
        if values["schema"] != SCHEMA_VERSION:
            raise BundleError(
                f"expected bundle schema {SCHEMA_VERSION}, found {values['schema']}; "
                "export again or install the simplenet-edge version that wrote it"
            )
        try:
            values["model"] = from_dict(SimpleNetConfig, values["model"])
            values["input"] = from_dict(InputSpec, values["input"])
            values["precisions"] = {name: _record(record) for name, record in values["precisions"].items()}
            return from_dict(cls, values)
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{MANIFEST_NAME} is damaged ({error}); export again") from error


def _is_size(values: object) -> bool:
    return (
        isinstance(values, tuple) and len(values) == 2 and all(isinstance(value, int) and value > 0 for value in values)
    )


def _record(values: dict[str, Any]) -> PrecisionRecord:
    point = from_dict(OperatingPoint, values["operating_point"])
    statistics = from_dict(ScoreStatistics, values["score_statistics"])
    return from_dict(PrecisionRecord, {**values, "operating_point": point, "score_statistics": statistics})


class Bundle:
    """A bundle on disk, opened and checked: every file named by the manifest is there with the right SHA-256.

    Raises BundleError from the constructor. Safe to share between threads: nothing changes after that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.from_json(_decode_text(self._read(MANIFEST_NAME)))
        for name, expected in self.manifest.files.items():
            found = hashlib.sha256(self._read(name)).hexdigest()
            if found != expected:
                raise BundleError(
                    f"{path}: {name} has SHA-256 {found[:12]}…, the manifest says {expected[:12]}…; "
                    "the file was changed or cut off: copy the bundle again"
                )
        for precision, record in self.manifest.precisions.items():
            if record.graph not in self.manifest.files:
                raise BundleError(
                    f"{path}: the {precision} graph {record.graph} has no hash in the manifest; export again"
                )

    @property
    def id(self) -> str:
        """The first 12 hex digits of the manifest's SHA-256; it covers every file through their hashes."""
        return hashlib.sha256(self._read(MANIFEST_NAME)).hexdigest()[:12]

    def read_bytes(self, name: str) -> bytes:
        """The content of a file that the manifest lists, checked once more against its hash. Raises BundleError."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: no {name} in the bundle; it has {', '.join(sorted(self.manifest.files))}")
        data = self._read(name)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name]:
            raise BundleError(f"{self.path}: {name} changed while in use; copy the bundle again")
        return data

    @property
    def frame_hw(self) -> tuple[int, int]:
        """(height, width) of the frames that the graphs take: the model's, or a camera's."""
        return self.manifest.frame_hw or self.manifest.input.size_hw

    def record(self, precision: str = "fp32") -> PrecisionRecord:
        """What the bundle holds of a precision. Raises BundleError where it has none."""
        if precision not in self.manifest.precisions:
            found = ", ".join(sorted(self.manifest.precisions))
            raise BundleError(f"{self.path}: no {precision} graph; it has {found}: export it first")
        return self.manifest.precisions[precision]

    def graph(self, precision: str = "fp32") -> bytes:
        """The serialised ONNX graph of a precision. Raises BundleError where the bundle has none."""
        return self.read_bytes(self.record(precision).graph)

    def golden(self) -> tuple[Frames, Prediction]:
        """The golden frames uint8 `(N, *frame_hw, 3)` and what the FP32 model said about them; N is at least 1.

        Raises BundleError where there are none or their shapes don't fit the model.
        """
        frames, score, maps = (self._array(f"golden/{name}.npy") for name in ("frames", "score", "map"))
        count, size_hw = score.size, self.manifest.input.size_hw
        expected = ((count, *self.frame_hw, 3), (count,), (count, *size_hw))
        found = (frames.shape, score.shape, maps.shape)
        if count == 0 or found != expected:
            raise BundleError(
                f"{self.path}: expected golden frames, scores, maps of shapes {expected}, found {found}; export again"
            )
        return frames, Prediction(score, maps)

    def _array(self, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(io.BytesIO(self.read_bytes(name)), allow_pickle=False)
        return array

    def _read(self, name: str) -> bytes:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or set(name) & {"\\", "\0"}:
            raise BundleError(f"{self.path}: {name!r} is not a plain name inside the bundle; don't use this bundle")
        try:
            if self.path.is_dir():
                return (self.path / name).read_bytes()
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(name)
        except (FileNotFoundError, KeyError, NotADirectoryError):
            if not self.path.exists():
                raise BundleError(f"{self.path}: no such bundle; check the path") from None
            raise BundleError(f"{self.path}: {name} is missing; this is not a bundle, or it was cut off") from None
        except zipfile.BadZipFile as error:
            raise BundleError(f"{self.path}: neither a folder nor a whole .zip ({error}); copy it again") from error
        except OSError as error:
            raise BundleError(f"{self.path}: {name} can't be read ({error})") from error
        except Exception as error:  # what the decompressors raise on damaged data shares no base
            raise BundleError(f"{self.path}: {name} can't be unpacked ({error}); copy the bundle again") from error


def write_bundle(path: Path, manifest: Manifest, files: dict[str, bytes], overwrite: bool = False) -> Bundle:
    """Write a bundle at `path` (a folder, or one file where it ends in `.zip`) and open it again.

    The manifest's `files` are computed here. Everything is written under a temporary name beside `path` and renamed
    at the end: an interruption leaves what was there before. Raises BundleError where `path` exists and `overwrite`
    is not set, or where the disk refuses.
    """
    if path.exists() and not overwrite:
        raise BundleError(f"{path} exists; name another file or pass --overwrite")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST_NAME).is_file():
        raise BundleError(f"{path} is a folder but no bundle, so it is not replaced; name another")
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    text = dataclasses.replace(manifest, files=hashes).to_json()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            for name, data in {**files, MANIFEST_NAME: text.encode()}.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).write_bytes(data)
            staging.chmod(0o755)
            _move_into_place(_zip(staging) if path.suffix == ".zip" else staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"{path} can't be written ({error}); nothing was changed there") from error
    return Bundle(path)


def golden_files(frames: Frames, prediction: Prediction) -> dict[str, bytes]:
    """The golden frames and their FP32 prediction as bundle files."""
    return {
        f"golden/{name}.npy": npy_bytes(array)
        for name, array in (("frames", frames), ("score", prediction.score), ("map", prediction.map))
    }


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the content of a `.npy` file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST_NAME} is not UTF-8 text ({error}); copy the bundle again") from error


def _zip(folder: Path) -> Path:
    archive_path = folder / ".zip"
    with zipfile.ZipFile(archive_path, "w") as archive:  # stored: weights don't compress, reads stay cheap
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file != archive_path:
                archive.write(file, file.relative_to(folder).as_posix())
    return archive_path


def _move_into_place(new: Path, path: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)  # atomic, over a file or over nothing
        return
    retired = new.with_name(f"{new.name}.old")
    os.replace(path, retired)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(retired, path)
        raise
    shutil.rmtree(retired, ignore_errors=True)
