"""The bundle: the one artifact that travels from the workstation to the device. No pickle anywhere.

A folder, or one `.zip` of the same files:

    manifest.json        what `Manifest` holds, with the SHA-256 of every other file and of itself
    model.fp32.onnx      frames uint8 (B, H, W, 3) BGR -> score float32 (B,), map float32 (B, H, W)
    model.fp16.onnx, model.int8.onnx    the same contract, where they were exported
    golden/frames.npy    a few frames as the graphs take them, uint8 (N, *frame_hw, 3) ...
    golden/score.npy     ... with their FP32 scores (N,) ...
    golden/map.npy       ... and maps (N, H, W): what `verify` replays on the device
    golden/int8/score.npy, golden/int8/map.npy    what INT8 says of them, a model of its own
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from simplenet_edge.bundle_files import BundleFiles, npy_array, npy_bytes
from simplenet_edge.errors import BundleError, DataError
from simplenet_edge.files import require_writable, write_bytes, write_folder
from simplenet_edge.manifest import MANIFEST_NAME, SCHEMA_VERSION, Manifest, PrecisionRecord, is_sealed
from simplenet_edge.spec import Frames, Prediction

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Bundle",
    "Manifest",
    "PrecisionRecord",
    "golden_files",
    "npy_bytes",
    "require_place",
    "write_bundle",
]

_log = logging.getLogger(__name__)

_MANIFEST_BYTES = 16 * 2**20  # at most


class Bundle:
    """A bundle on disk, opened and checked: the manifest, and the SHA-256 of every file that it names.

    `id` is the first 12 hex digits of the manifest's SHA-256; it covers every file through their hashes.
    Raises BundleError from the constructor. Safe to share between threads: nothing changes after that.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = BundleFiles(path)
        text = self._files.read(MANIFEST_NAME, _MANIFEST_BYTES)
        self.id = hashlib.sha256(text).hexdigest()[:12]
        self.manifest = Manifest.from_json(_decode_text(text))
        if not is_sealed(text):
            _log.warning(
                "%s: the manifest has no checksum of its own, as versions up to 0.1.0 wrote it, so damage to it may go "
                "unseen; export again",
                path,
            )
        self._files.require_size(self.manifest.files)
        for name, expected in self.manifest.files.items():
            digest = hashlib.sha256()
            for chunk in self._files.chunks(name):
                digest.update(chunk)
            if digest.hexdigest() != expected:
                raise BundleError(
                    f"{path}: {name} has SHA-256 {digest.hexdigest()[:12]}…, the manifest says {expected[:12]}…; "
                    "the file was changed or cut off: copy the bundle again"
                )

    def read_bytes(self, name: str) -> bytes:
        """The content of a file that the manifest lists, checked once more against its hash. Raises BundleError."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: no {name} in the bundle; it has {', '.join(sorted(self.manifest.files))}")
        data = self._files.read(name)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name]:
            raise BundleError(f"{self.path}: {name} changed while in use; copy the bundle again")
        return data

    def zipped(self) -> bytes:
        """The whole bundle as the content of a `.zip`: the same one, wherever that is written. Raises BundleError."""
        manifest = self._files.read(MANIFEST_NAME, _MANIFEST_BYTES)
        return _zip({MANIFEST_NAME: manifest, **{name: self.read_bytes(name) for name in self.manifest.files}})

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

    def graph_bytes(self, precision: str = "fp32") -> int:
        """The size of that graph, without reading it. Raises BundleError where the bundle has none."""
        return self._files.size(self.record(precision).graph)

    def golden(self, precision: str = "fp32") -> tuple[Frames, Prediction]:
        """The golden frames uint8 `(N, *frame_hw, 3)` and what they should give in that precision; N is at least 1.

        That is what the FP32 model said, unless the precision is a model of its own (`has_own_golden`). Raises
        BundleError where there are none or where they don't fit the model.
        """
        folder = f"golden/{precision}" if self.has_own_golden(precision) else "golden"
        frames = self._array("golden/frames.npy", np.uint8)
        score, maps = (self._array(f"{folder}/{name}.npy", np.float32) for name in ("score", "map"))
        count, size_hw = score.size, self.manifest.input.size_hw
        expected = ((count, *self.frame_hw, 3), (count,), (count, *size_hw))
        found = (frames.shape, score.shape, maps.shape)
        if count == 0 or found != expected:
            raise BundleError(
                f"{self.path}: expected golden frames, scores, maps of shapes {expected}, found {found}; export again"
            )
        return frames, Prediction(score, maps)

    def has_own_golden(self, precision: str) -> bool:
        """Whether a precision has golden scores and maps of its own, and is not held against those of FP32."""
        return f"golden/{precision}/score.npy" in self.manifest.files

    def _array(self, name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
        try:
            return npy_array(self.read_bytes(name), kind)
        except ValueError as error:
            raise BundleError(f"{self.path}: {name} is {error}; export again") from error


def write_bundle(path: Path, manifest: Manifest, files: dict[str, bytes], overwrite: bool = False) -> Bundle:
    """Write a bundle at `path` (a folder, or one file where it ends in `.zip`) and open it again.

    The manifest's `files` are computed here. At every moment `path` holds what was there before or the whole new
    bundle, as `simplenet_edge.files` writes it. Raises BundleError where `path` exists and `overwrite` is not set,
    for a manifest that would not be read again, or where the disk refuses.
    """
    require_place(path, overwrite)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    text = dataclasses.replace(manifest, files=hashes).to_json()
    Manifest.from_json(text)
    content = {**files, MANIFEST_NAME: text.encode()}
    try:
        if path.suffix == ".zip":
            write_bytes(path, _zip(content))
        else:
            write_folder(path, content)
    except OSError as error:
        raise BundleError(f"{path} can't be written ({error}); nothing was changed there") from error
    return Bundle(path)


def require_place(path: Path, overwrite: bool = False) -> None:
    """See that `write_bundle` may write at `path`. Raises BundleError."""
    if path.exists() and not overwrite:
        raise BundleError(f"{path} exists; name another file or pass --overwrite")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST_NAME).is_file():
        raise BundleError(f"{path} is a folder but no bundle, so it is not replaced; name another")
    if path.exists() and path.is_dir() == (path.suffix == ".zip"):
        raise BundleError(f"{path} can't be written: a .zip replaces a file and any other name a folder; name another")
    try:
        require_writable(path.parent)
    except DataError as error:
        raise BundleError(str(error)) from error


def golden_files(
    frames: Frames, prediction: Prediction, own: Mapping[str, Prediction] | None = None
) -> dict[str, bytes]:
    """The golden frames, their FP32 prediction and those of precisions that have their `own`, as bundle files."""
    folders = {"golden": prediction, **{f"golden/{name}": other for name, other in (own or {}).items()}}
    files = {"golden/frames.npy": npy_bytes(frames)}
    for folder, one in folders.items():
        files |= {f"{folder}/score.npy": npy_bytes(one.score), f"{folder}/map.npy": npy_bytes(one.map)}
    return files


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST_NAME} is not UTF-8 text ({error}); copy the bundle again") from error


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored: weights don't compress, reads stay cheap
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o644 << 16  # as unpacked
            archive.writestr(member, data)
    return buffer.getvalue()
