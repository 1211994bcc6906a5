"""A manifest is read whole, as it was written, or not at all."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import BundleError
from simplenet_edge.manifest import Manifest
from tests.bundles import tiny_files, tiny_manifest, write_tiny_bundle

TEXT = tiny_manifest(files=dict.fromkeys(tiny_files(), 64 * "a"), frame_hw=(32, 48)).to_json()
FP32 = ("precisions", "fp32")
POINT, STATISTICS = (*FP32, "operating_point"), (*FP32, "score_statistics")


def unsealed(text: str = TEXT) -> dict[str, Any]:
    """The manifest as version 0.1.0 would have written it."""
    values: dict[str, Any] = json.loads(text)
    del values["versions"]["manifest.json"]
    return values


def edited(keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """An unsealed manifest with one field replaced."""
    values = unsealed()
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return values


def flipped(bits: Iterator[int] | range) -> list[int]:
    """Those single bits whose flip leaves a manifest that loads."""
    data, loaded = TEXT.encode(), []
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            Manifest.from_json(damaged.decode())
            loaded.append(bit)
        except (BundleError, UnicodeDecodeError):
            pass
    return loaded


def test_a_flipped_bit_is_refused() -> None:
    assert flipped(iter(random.Random(0).sample(range(8 * len(TEXT)), 1500))) == []
    seal = TEXT.index('"manifest.json"')  # its name and digits too
    assert flipped(range(8 * seal, 8 * (seal + 100))) == []


@pytest.mark.slow
def test_every_flipped_bit_is_refused() -> None:
    assert flipped(range(8 * len(TEXT.encode()))) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"created": "2026', '"created": "2027'),
        lambda text: text + " ",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: json.dumps(json.loads(text)),
        lambda text: text.replace("sha256:", "sha256:0"),
        lambda text: text.replace('"manifest.json": ', '"Manifest.json": '),
    ],
)
def test_a_manifest_that_is_not_as_it_was_written(edit: Callable[[str], str]) -> None:
    assert edit(TEXT) != TEXT
    with pytest.raises(BundleError, match=r"its own SHA-256 .* copy the bundle again"):
        Manifest.from_json(edit(TEXT))


def test_a_manifest_without_a_checksum_loads_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = write_tiny_bundle(tmp_path / "old")
    assert caplog.text == ""
    file = bundle.path / "manifest.json"
    file.write_text(json.dumps(unsealed(file.read_text())))
    assert Bundle(bundle.path).manifest == bundle.manifest
    assert "no checksum of its own" in caplog.text
    assert "export again" in caplog.text


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*POINT, "threshold"), 9.13),  # a bit in the exponent
        ((*POINT, "threshold"), 60.5),
        ((*POINT, "threshold"), True),
        ((*POINT, "threshold"), 10**400),
        ((*POINT, "pixel_threshold"), 1e300),
        ((*POINT, "pixel_threshold"), "1"),
        ((*POINT, "alpha"), 0.0),
        ((*POINT, "alpha"), 1.5),
        ((*POINT, "alpha"), 0.001),  # 40 images are too few for it
        ((*POINT, "alpha"), 0.9),  # the fifth of 40 scores is below the median
        ((*POINT, "n_calibration"), 41),
        ((*POINT, "n_calibration"), 40.0),
        ((*POINT, "n_parts"), 0),
        ((*POINT, "n_parts"), 41),
        ((*POINT, "n_parts"), 10),  # too few for its alpha
        ((*POINT, "n_parts"), 40.0),
        ((*POINT, "n_parts"), True),
        ((*POINT, "guaranteed"), 1),
        ((*STATISTICS, "n"), 2**31),
        ((*STATISTICS, "n"), 0),
        ((*STATISTICS, "n"), True),
        ((*STATISTICS, "min"), 16.0),
        ((*STATISTICS, "max"), None),
        ((*STATISTICS, "max"), 59.0),
        ((*STATISTICS, "max"), 1e39),
        ((*STATISTICS, "median"), 61.0),
        ((*STATISTICS, "mean"), 9.0),
        ((*STATISTICS, "mean"), "15"),
        ((*STATISTICS, "std"), -1.0),
        ((*STATISTICS, "std"), 26.0),  # more than half the range
        ((*FP32, "tolerance"), True),
        ((*FP32, "tolerance"), 10**400),
        ((*FP32, "metrics"), {"auroc": float("nan")}),
        ((*FP32, "metrics"), []),
        ((*FP32, "parity"), None),
        (("name",), 7),
        (("created",), None),
        (("schema",), True),
        (("schema",), 2),
        (("frame_hw",), [True, 48]),
        (("frame_hw",), [32, 2**31]),
        (("input", "height"), 32.0),
        (("input", "resize_to"), "80"),
        (("input", "mean"), [0.5]),
        (("input", "std"), []),
        (("input", "std"), [0.1, 0.1, 10**400]),
        (("model", "layers"), "layer2"),
        (("model", "layers"), [1, 2]),
        (("model", "backbone"), None),
        (("model", "patch_size"), 10**9 + 1),
        (("model", "memory_size"), 10**12),
        (("model", "smoothing_sigma"), 10**400),
        (("model", "standardize"), 1),
        (("versions",), {"onnx": 1}),
        (("files",), {f"file{i}": "" for i in range(1001)}),
        (("precisions",), {}),
        (("more",), 1),
    ],
)
def test_a_value_that_no_export_writes_is_refused(keys: tuple[str, ...], value: Any) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(json.dumps(edited(keys, value)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace('"name": "tiny"', '"name": "tiny", "name": "other"'), "stands twice"),
        (json.dumps(edited((*FP32, "metrics"), {"a": 0})).replace('{"a": 0}', '{"a": 1e400}'), "damaged"),
        ("[" * 100_000, "not JSON"),
        ('{"schema": ' + "[" * 100 + "]" * 100 + "}", "nested more than 32 deep"),
        ('{"schema": ' + "9" * 5000 + "}", "not JSON"),
    ],
    ids=["a name twice", "infinity", "deep and cut off", "deep", "huge"],
)
def test_json_that_readers_take_in_different_ways_is_refused(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(text)


def test_a_threshold_that_a_person_set_may_lie_anywhere() -> None:
    values = edited((*POINT, "threshold"), 9.13)
    values["precisions"]["fp32"]["operating_point"]["guaranteed"] = False
    assert Manifest.from_json(json.dumps(values)).precisions["fp32"].operating_point.threshold == 9.13


def places(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the fields of a JSON value are."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*keys, key)
            yield from places(inner, (*keys, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*keys, index)
            yield from places(inner, (*keys, index))


STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e-320, 1e39, 1e308),
    *(float("nan"), float("inf"), "", "x", "../x", "\0", "\ud800", "9" * 5000, [], [1], [[[]]], {}, {"": 1}),
)


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_mutated_field_never_moves_a_verdict(count: int) -> None:
    """An old manifest with a strange value or a missing field is refused, or still says the same of every part."""
    original, generator = Manifest.from_json(json.dumps(unsealed())), random.Random(count)
    where = list(places(unsealed()))
    for _ in range(count):
        keys = generator.choice(where)
        values = edited(keys, copy.deepcopy(generator.choice(STRANGE)))
        if generator.random() < 0.1:
            values = json.loads(json.dumps(values))
            del values[generator.choice(sorted(values))]
        try:
            found = Manifest.from_json(json.dumps(values))
        except BundleError:
            continue
        point = dataclasses.replace(found.precisions["fp32"].operating_point, pixel_threshold=None, alpha=0.05)
        assert dataclasses.replace(point, guaranteed=True) == original.precisions["fp32"].operating_point, keys
        assert found.precisions["fp32"].score_statistics.n == 40
        found.to_json()
