"""Bundles as versions of a model in a repository of Triton Inference Server, which then needs nothing of ours.

    NAME/config.pbtxt             for all versions; of these Triton loads the two newest
    NAME/configs/cpu.pbtxt, gpu.pbtxt    the same for one kind of device: tritonserver --model-config-name=cpu
    NAME/N/model.onnx             or model.plan
    NAME/N/simplenet-edge.json    what `_Version` holds: bundle, precision, threshold, shapes
    NAME/N/golden/frames.npy, score.npy, map.npy    to see that the server gives what `verify` does

Triton ignores what it does not know in a model's folder, but takes every folder of the repository for a model, so that
nothing is ever written there beside the models.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from simplenet_edge.bundle import Bundle, npy_bytes
from simplenet_edge.contract import FRAMES, MAP, SCORE
from simplenet_edge.engines.tensorrt.engine import find_plan
from simplenet_edge.errors import ConfigError
from simplenet_edge.files import disk_errors, read_json, write_folder, write_text
from simplenet_edge.serving.models import check_name
from simplenet_edge.spec import from_dict

__all__ = ["Backend", "write_model"]

Backend = Literal["onnxruntime", "tensorrt"]

_HEAD = "# Written by simplenet-edge triton, anew with every version; don't edit it.\n"
_ABOUT = "simplenet-edge.json"
_FILES: dict[Backend, str] = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
_DEVICES: dict[Backend, tuple[str, ...]] = {"onnxruntime": ("cpu", "gpu"), "tensorrt": ("gpu",)}
_MAX_BATCH = 8
_QUEUE_US = 2000  # that Triton lets a request wait for others
_LOADED = 2  # versions: the newest, and the one to go back to
_AS_IT_STANDS = -1  # Triton's number for ONNX Runtime's basic level, which leaves the steps of INT8 alone


@dataclass(frozen=True)
class _Version:
    """One version of a model.

    Scores and maps of the golden frames may differ by `tolerance` times the range of the golden maps. `most` is the
    largest batch that its file takes; None for any.
    """

    bundle_id: str
    precision: str
    threshold: float
    tolerance: float
    backend: Backend
    frame_hw: tuple[int, int]
    map_hw: tuple[int, int]
    most: int | None


def write_model(
    bundle: Bundle,
    repository: Path,
    *,
    name: str | None = None,
    version: int | None = None,
    backend: Backend = "onnxruntime",
    precision: str = "fp32",
    max_batch: int | None = None,
) -> Path:
    """Add a bundle to a repository, which need not exist, as a version of the model `name`; its folder.

    Without a name it is that of the manifest; without a version the one after the newest, or the newest where that is
    of this bundle already. Versions that are there stay. `max_batch` None is what the model has already, and of a new
    one 8, or less where a plan takes less. For TensorRT there must be a plan for this device's GPU.

    Raises ConfigError for what can't work in Triton and for a model that is not of this command, BundleError,
    EngineError, or DataError where the disk refuses; Triton then finds what it found before.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"--backend must be {' or '.join(get_args(Backend))}, not {backend!r}")
    if max_batch is not None and not 1 <= max_batch <= 1024:
        raise ConfigError(f"a batch has from 1 to 1024 frames, not {max_batch}")
    folder = repository / check_name(name or bundle.manifest.name)
    versions = _read_versions(folder)
    content, most = _model(bundle, backend, precision)
    record = bundle.record(precision)
    new = _Version(
        bundle.id,
        precision,
        record.operating_point.threshold,
        record.tolerance,
        backend,
        bundle.frame_hw,
        bundle.manifest.input.size_hw,
        most,
    )
    newest = max(versions, default=0)
    number = version if version is not None else newest if versions.get(newest) == new else newest + 1
    if not 1 <= number < 10**9:
        raise ConfigError(f"versions are 1, 2, ..., not {number}")
    if versions.get(number, new) != new:
        raise ConfigError(f"{folder / str(number)} holds another bundle; leave --version out, or name another")
    is_there = number in versions
    config = _config(folder, dict(sorted({**versions, number: new}.items())), max_batch or _max_batch(folder))
    with disk_errors(folder):
        if not is_there:
            try:
                write_folder(folder / str(number), {_FILES[backend]: content, **_evidence(bundle, new)})
            except OSError:
                with suppress(OSError):
                    folder.rmdir()  # a model without a version would keep Triton from starting
                raise
        for device in _DEVICES[backend]:
            write_text(folder / "configs" / f"{device}.pbtxt", config + _group(device))
        write_text(folder / "config.pbtxt", config)  # last: before it, Triton finds the model that was there
    return folder / str(number)


def _model(bundle: Bundle, backend: Backend, precision: str) -> tuple[bytes, int | None]:
    """The file that Triton loads, and the largest batch that it takes."""
    if backend == "onnxruntime":
        return bundle.graph(precision), None
    plan = find_plan(bundle, precision)
    return plan.read(), plan.key.max_batch


def _evidence(bundle: Bundle, new: _Version) -> dict[str, bytes]:
    frames, golden = bundle.golden(new.precision)
    about = json.dumps(dataclasses.asdict(new), indent=2, allow_nan=False) + "\n"
    return {
        _ABOUT: about.encode(),
        "golden/frames.npy": npy_bytes(frames),
        "golden/score.npy": npy_bytes(golden.score),
        "golden/map.npy": npy_bytes(golden.map),
    }


def _read_versions(folder: Path) -> dict[int, _Version]:
    """The versions that are there, in their order. Raises ConfigError for a model that is not of this command."""
    config = folder / "config.pbtxt"
    foreign = ConfigError(f"{folder} holds a model that is not of this command; choose another --name")
    try:
        if config.exists() and not config.read_text(encoding="utf-8").startswith(_HEAD):
            raise foreign
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder} can't be read ({error}); name another --output") from error
    versions: dict[int, _Version] = {}
    for number in sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]{0,8}", name)):
        try:
            versions[number] = from_dict(_Version, read_json(folder / str(number) / _ABOUT) or {})
        except ConfigError as error:
            raise foreign from error
    return versions


def _max_batch(folder: Path) -> int | None:
    """What `_config` wrote for the versions that are there."""
    config = folder / "config.pbtxt"
    found = re.search(r"^max_batch_size: (\d+)$", config.read_text(encoding="utf-8") if config.exists() else "", re.M)
    return int(found[1]) if found else None


def _config(folder: Path, versions: Mapping[int, _Version], max_batch: int | None) -> str:
    """`config.pbtxt` of all versions. Raises ConfigError where one model can't be all of them."""
    newest = versions[max(versions)]
    for number, one in versions.items():
        for field in ("backend", "frame_hw", "map_hw"):
            if getattr(one, field) != getattr(newest, field):
                raise ConfigError(
                    f"version {number} of {folder} has {field} {getattr(one, field)}, this one "
                    f"{getattr(newest, field)}, and a model has only one; choose another --name"
                )
    most = min((one.most for one in versions.values() if one.most is not None), default=None)
    if max_batch is not None and most is not None and max_batch > most:
        raise ConfigError(
            f"the plan takes at most {most} frames, not {max_batch}: pass a smaller --max-batch, or run: "
            f"simplenet-edge build --max-batch {max_batch}"
        )
    max_batch = max_batch or min(_MAX_BATCH, most or _MAX_BATCH)
    frame, map_hw = [*newest.frame_hw, 3], list(newest.map_hw)
    lines = [
        f'name: "{folder.name}"',
        f'backend: "{newest.backend}"',
        f'default_model_filename: "{_FILES[newest.backend]}"',
        f"max_batch_size: {max_batch}",
        f'input [ {{ name: "{FRAMES}" data_type: TYPE_UINT8 dims: {frame} }} ]',
        "output [",
        f'  {{ name: "{SCORE}" data_type: TYPE_FP32 dims: [1] reshape {{ shape: [] }} }},',
        f'  {{ name: "{MAP}" data_type: TYPE_FP32 dims: {map_hw} }}',
        "]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_US} }}",
        f"version_policy {{ latest {{ num_versions: {_LOADED} }} }}",
        "model_warmup [",
        ",\n".join(_warmup(size, frame) for size in sorted({1, max_batch})),
        "]",
    ]
    if any(one.precision == "int8" for one in versions.values()):
        lines.append(f"optimization {{ graph {{ level: {_AS_IT_STANDS} }} }}")
    return _HEAD + "\n".join([*lines, *_parameters(versions)]) + "\n"


def _warmup(size: int, frame: Sequence[int]) -> str:
    tensor = f'key: "{FRAMES}" value {{ data_type: TYPE_UINT8 dims: {frame} zero_data: true }}'
    return f'  {{ name: "frames of zeros, {size}" batch_size: {size} inputs {{ {tensor} }} }}'


def _parameters(versions: Mapping[int, _Version]) -> Iterator[str]:
    """What decides, of the newest version and, with `.N`, of each."""
    for suffix, one in [("", versions[max(versions)]), *((f".{number}", one) for number, one in versions.items())]:
        for field in ("bundle_id", "precision", "threshold"):
            value = json.dumps(str(getattr(one, field)))
            yield f'parameters {{ key: "{field}{suffix}" value {{ string_value: {value} }} }}'


def _group(device: str) -> str:
    return f"instance_group [ {{ count: 1 kind: KIND_{device.upper()} }} ]\n"
