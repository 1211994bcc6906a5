"""What a bundle says about itself: `manifest.json`, checked whole when it is read.

Text in, text out. The SHA-256 of the text is in the text, under `versions`, where readers of every version let it pass;
it is that of the same text with 64 zeros in its place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from simplenet_edge.errors import BundleError, ConfigError
from simplenet_edge.spec import (
    InputSpec,
    OperatingPoint,
    ScoreStatistics,
    SimpleNetConfig,
    from_dict,
    to_dict,
)
from simplenet_edge.threshold import check_threshold

__all__ = ["MANIFEST_NAME", "SCHEMA_VERSION", "Manifest", "PrecisionRecord", "is_sealed"]

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

_SEAL_NAME = MANIFEST_NAME  # the entry of `versions` that holds the checksum
_SEAL_KIND = "sha256:"
_NO_SEAL = _SEAL_KIND + 64 * "0"
_MAX_SIDE = 32768  # pixels of a camera frame
_MAX_FILES = 1000
_MAX_DEPTH = 32  # of lists and objects inside each other


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
        if not isinstance(self.tolerance, (int, float)) or not 0 <= self.tolerance <= 1:
            raise ConfigError(f"tolerance must be a share of the maps' range, from 0 to 1, not {self.tolerance!r}")


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
        if len(self.files) > _MAX_FILES:
            raise ConfigError(f"files must be at most {_MAX_FILES}, not {len(self.files)}")
        if self.frame_hw is not None and not _is_size(self.frame_hw):
            raise ConfigError(f"frame_hw must be two positive numbers up to {_MAX_SIDE} or null, not {self.frame_hw!r}")
        if "fp32" not in self.precisions:
            raise ConfigError(f"precisions must have fp32, found {', '.join(sorted(self.precisions)) or 'none'}")

    def to_json(self) -> str:
        """The manifest as indented JSON text, under its checksum."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.update(model=to_dict(self.model), input=to_dict(self.input))
        values["precisions"] = {
            name: {**dataclasses.asdict(record), "operating_point": to_dict(record.operating_point)}
            for name, record in self.precisions.items()
        }
        values["versions"] = {**self.versions, _SEAL_NAME: _NO_SEAL}
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        return text.replace(_NO_SEAL, _seal(text))

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote. Raises BundleError where it is damaged or from a newer version."""
        values = _parse(text)
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
            manifest = from_dict(cls, values)
            manifest.to_json()  # refuses NaN and infinity, wherever they are
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{MANIFEST_NAME} is damaged ({error}); export again") from error
        _check_names(manifest)
        return dataclasses.replace(manifest, versions=_unsealed(text, manifest.versions))


def is_sealed(text: bytes) -> bool:
    """Whether a manifest's text holds its own checksum; versions up to 0.1.0 wrote none."""
    return f'"{_SEAL_NAME}"'.encode() in text


def _parse(text: str) -> Any:
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME} is not JSON ({error}); copy the bundle again") from error
    level = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise BundleError(f"{MANIFEST_NAME} is nested more than {_MAX_DEPTH} deep; don't use this bundle")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(sorted(values))}")
    return values


def _seal(text: str) -> str:
    return _SEAL_KIND + hashlib.sha256(text.encode()).hexdigest()


def _unsealed(text: str, versions: dict[str, str]) -> dict[str, str]:
    """`versions` without the checksum, after `text` was held against it; as they are where there never was one."""
    if _SEAL_NAME not in versions and not any(value.startswith(_SEAL_KIND) for value in versions.values()):
        return versions
    stated = versions.get(_SEAL_NAME, "")
    if not stated or _seal(text.replace(stated, _NO_SEAL)) != stated:
        raise BundleError(
            f"{MANIFEST_NAME} is not the text that its own SHA-256 was taken of; it was changed: copy the bundle again"
        )
    return {name: version for name, version in versions.items() if name != _SEAL_NAME}


def _check_names(manifest: Manifest) -> None:
    for name in manifest.files:
        path = PurePosixPath(name)
        if not path.parts or ".." in path.parts or path.is_absolute() or set(name) & {"\\", "\0"}:
            raise BundleError(f"{name!r} is not a plain name inside the bundle; don't use this bundle")
    for precision, record in manifest.precisions.items():
        if manifest.files and record.graph not in manifest.files:  # before a bundle is written there are none
            raise BundleError(f"the {precision} graph {record.graph} has no hash in the manifest; export again")


def _is_size(values: object) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 2
        and all(isinstance(value, int) and 0 < value <= _MAX_SIDE for value in values)
    )


def _record(values: dict[str, Any]) -> PrecisionRecord:
    point = from_dict(OperatingPoint, values["operating_point"])
    statistics = from_dict(ScoreStatistics, values["score_statistics"])
    check_threshold(point, statistics)
    return from_dict(PrecisionRecord, {**values, "operating_point": point, "score_statistics": statistics})
