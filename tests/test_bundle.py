from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simplenet_edge.bundle import MANIFEST_NAME, SCHEMA_VERSION, Bundle, Manifest, write_bundle
from simplenet_edge.errors import BundleError
from tests.bundles import HEIGHT, WIDTH, tiny_files, tiny_graph, tiny_manifest, tiny_record, write_tiny_bundle
from tests.faults import no_file_beyond, outcomes

KINDS = ["tiny", "tiny.zip"]
GRAPH = "model.fp32.onnx"


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a bundle of each kind goes."""
    return tmp_path / "out" / request.param


def content(path: Path) -> dict[str, bytes]:
    """Every file of a bundle by name, read without the code under test."""
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def replace_content(path: Path, files: dict[str, bytes]) -> None:
    """Make the bundle hold exactly these files."""
    if path.is_dir():
        shutil.rmtree(path)
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)


def edit_manifest(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    files = content(path)
    values = json.loads(files[MANIFEST_NAME])
    edit(values)
    replace_content(path, {**files, MANIFEST_NAME: json.dumps(values).encode()})


def test_round_trip(path: Path) -> None:
    written = write_tiny_bundle(path)
    bundle = Bundle(path)
    assert bundle.manifest == written.manifest
    assert bundle.manifest == tiny_manifest(files=bundle.manifest.files)
    assert bundle.graph() == tiny_graph()
    frames, golden = bundle.golden()
    assert (frames.dtype, frames.shape) == (np.uint8, (4, HEIGHT, WIDTH, 3))
    assert (golden.score.dtype, golden.score.shape) == (np.float32, (4,))
    assert (golden.map.dtype, golden.map.shape) == (np.float32, (4, HEIGHT, WIDTH))
    assert sorted(content(path)) == sorted([MANIFEST_NAME, *tiny_files()])


def test_nothing_is_left_beside_it(path: Path) -> None:
    write_tiny_bundle(path)
    assert list(path.parent.iterdir()) == [path]


def test_folder_and_zip_are_the_same_bundle(tmp_path: Path) -> None:
    folder, archive = (write_tiny_bundle(tmp_path / kind) for kind in KINDS)
    assert content(folder.path) == content(archive.path)
    assert folder.id == archive.id
    assert len(folder.id) == 12


def test_a_zip_that_was_packed_by_hand_and_compressed_opens(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder.path)
    assert Bundle(Path(archive)).id == folder.id


def test_the_id_changes_with_any_file_and_with_the_threshold(tmp_path: Path) -> None:
    point = tiny_record().operating_point
    moved = type(point)(point.threshold + 1e-9, point.alpha, point.n_calibration, point.guaranteed)
    ids = [
        write_tiny_bundle(tmp_path / "a").id,
        write_tiny_bundle(tmp_path / "b", graph=tiny_graph() + b" ").id,
        write_tiny_bundle(tmp_path / "c", operating_point=moved).id,
    ]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("name", sorted(tiny_files()))
def test_one_changed_byte_is_found(path: Path, name: str) -> None:
    write_tiny_bundle(path)
    files = content(path)
    changed = bytearray(files[name])
    changed[len(changed) // 2] ^= 1
    replace_content(path, {**files, name: bytes(changed)})
    with pytest.raises(BundleError, match=f"{name} has SHA-256 .* copy the bundle again"):
        Bundle(path)


@pytest.mark.parametrize("name", sorted(tiny_files()))
def test_a_file_cut_off_is_found(path: Path, name: str) -> None:
    write_tiny_bundle(path)
    files = content(path)
    replace_content(path, {**files, name: files[name][:-1]})
    with pytest.raises(BundleError, match=f"{name} has SHA-256"):
        Bundle(path)


@pytest.mark.parametrize("name", [MANIFEST_NAME, *sorted(tiny_files())])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    write_tiny_bundle(path)
    files = content(path)
    del files[name]
    replace_content(path, files)
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle(path)


def test_no_bundle_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("not a zip")
    for name, message in (
        ("missing", "no such bundle; check the path"),
        ("missing.zip", "no such bundle; check the path"),
        ("empty", "manifest.json is missing"),
        ("text.zip", "neither a folder nor a whole .zip"),
    ):
        with pytest.raises(BundleError, match=message):
            Bundle(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_zip_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = write_tiny_bundle(tmp_path / "tiny.zip").path
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(BundleError, match=r"neither a folder nor a whole \.zip .* copy it again"):
        Bundle(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_zip_gives_anything_but_a_clean_error(
    tmp_path: Path, compression: int, data: st.DataObject
) -> None:
    source, path = tmp_path / "tiny", tmp_path / "damaged.zip"
    if not source.exists():
        write_tiny_bundle(source)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content_bytes in sorted(content(source).items()):
            archive.writestr(name, content_bytes)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(damaged))
    try:
        bundle = Bundle(path)
    except BundleError:
        return
    assert bundle.graph() == tiny_graph()  # the damage hit nothing that counts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON .* copy the bundle again"),
        (b"\xff\xfe{}", "not UTF-8 text"),
        (b"[]", "no schema number; this is not a bundle"),
        (b"{}", "no schema number"),
        (b'{"schema": "1"}', "no schema number"),
        (b'{"schema": 1}', "damaged .* export again"),
    ],
)
def test_a_manifest_that_is_none(path: Path, data: bytes, message: str) -> None:
    write_tiny_bundle(path)
    replace_content(path, {**content(path), MANIFEST_NAME: data})
    with pytest.raises(BundleError, match=message):
        Bundle(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(schema=SCHEMA_VERSION + 1), "expected bundle schema 1, found 2; export again or install"),
        (lambda v: v.update(colour="red"), "unknown colour"),
        (lambda v: v["input"].update(colour="red"), "InputSpec: unknown colour"),
        (lambda v: v["input"].update(height=0), r"within 8\.\.8192"),
        (lambda v: v["input"].pop("height"), "height"),
        (lambda v: v.update(input=None), "expected an object"),
        (lambda v: v["precisions"]["fp32"].pop("operating_point"), "operating_point"),
        (lambda v: v.pop("name"), "name"),
        (lambda v: v.update(precisions=[GRAPH]), "damaged"),
        (lambda v: v["precisions"].pop("fp32"), "precisions must have fp32, found none"),
        (lambda v: v["precisions"]["fp32"].update(graph=7), "graph must be a file name"),
        (lambda v: v["precisions"]["fp32"].update(tolerance=-1), "tolerance must be a share"),
        (lambda v: v.update(files=None), "files"),
        (lambda v: v.update(frame_hw=[1080]), "frame_hw must be two positive numbers"),
        (lambda v: v["files"].update({GRAPH: 7}), "files must map names to text"),
        (
            lambda v: v["precisions"]["fp32"]["operating_point"].update(threshold=float("nan")),
            "threshold must be a finite number, not nan",
        ),
        (
            lambda v: v["precisions"]["fp32"]["operating_point"].update(threshold=float("inf")),
            "threshold must be a finite number, not inf",
        ),
        (lambda v: v["precisions"]["fp32"]["operating_point"].update(threshold="high"), "OperatingPoint"),
        (lambda v: v["precisions"]["fp32"]["operating_point"].update(threshold=None), "OperatingPoint"),
        (lambda v: v["files"].pop(GRAPH), f"{GRAPH} has no hash in the manifest"),
        (
            lambda v: v["precisions"].update(fp16={**v["precisions"]["fp32"], "graph": "model.fp16.onnx"}),
            r"model\.fp16\.onnx has no hash",
        ),
    ],
)
def test_a_manifest_that_says_too_much_or_too_little(
    path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    write_tiny_bundle(path)
    edit_manifest(path, edit)
    with pytest.raises(BundleError, match=message):
        Bundle(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(json.loads(tiny_manifest().to_json()))), value=json_values)
def test_no_manifest_gives_anything_but_a_clean_error(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "tiny"
    if not path.exists():
        write_tiny_bundle(path)
    original = (path / MANIFEST_NAME).read_text()
    try:
        edit_manifest(path, lambda values: values.update({key: value}))
        Bundle(path).golden()
    except BundleError:
        pass
    finally:
        (path / MANIFEST_NAME).write_text(original)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "golden/../../secret", "..", "", "a\\..\\..\\secret", "nul\0byte"]
)
def test_a_name_that_leaves_the_bundle_is_refused(path: Path, name: str) -> None:
    write_tiny_bundle(path)
    (path.parent / "secret").write_text("secret")
    edit_manifest(path, lambda values: values["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="not a plain name inside the bundle; don't use this bundle"):
        Bundle(path)


def test_a_file_that_changes_while_in_use_is_found(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    (bundle.path / GRAPH).write_bytes(tiny_graph() + b" ")
    with pytest.raises(BundleError, match="changed while in use"):
        bundle.graph()


def test_the_id_is_that_of_the_bundle_in_use(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    before = bundle.id
    after = write_bundle(bundle.path, tiny_manifest(name="newer"), tiny_files(), overwrite=True)
    assert bundle.id == before != after.id


def test_what_the_bundle_does_not_have(path: Path) -> None:
    bundle = write_tiny_bundle(path)
    with pytest.raises(BundleError, match="no int8 graph; it has fp32: export it first"):
        bundle.graph("int8")
    with pytest.raises(BundleError, match=r"no notes\.txt in the bundle; it has golden/frames\.npy"):
        bundle.read_bytes("notes.txt")


def test_an_existing_bundle_is_kept_unless_told_otherwise(path: Path) -> None:
    write_tiny_bundle(path)
    before = content(path)
    with pytest.raises(BundleError, match="exists; name another file or pass --overwrite"):
        write_bundle(path, tiny_manifest(name="new"), tiny_files())
    assert content(path) == before
    replaced = write_bundle(path, tiny_manifest(name="new"), {GRAPH: tiny_graph()}, overwrite=True)
    assert replaced.manifest.name == "new"
    assert sorted(content(path)) == [MANIFEST_NAME, GRAPH]  # nothing of the old one stays
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("room", [1_000, 20_000, 60_000])
def test_a_disk_that_refuses_leaves_what_was_there(path: Path, room: int) -> None:
    """No file may grow beyond `room` bytes; one of them is larger."""
    write_tiny_bundle(path)
    before = content(path)
    files = {**tiny_files(), "more": bytes(room + 1)}
    with no_file_beyond(room), pytest.raises(BundleError, match=r"can't be written .* nothing was changed there"):
        write_bundle(path, tiny_manifest(name="new"), files, overwrite=True)
    assert content(path) == before
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="can't be written"):
        write_tiny_bundle(tmp_path / "file" / "tiny")
    with pytest.raises(BundleError, match="can't be written"):
        write_bundle(tmp_path / "file", tiny_manifest(), tiny_files(), overwrite=True)
    assert (tmp_path / "file").read_text() == ""


def test_the_manifest_is_strict_json() -> None:
    statistics = tiny_record().score_statistics
    broken = tiny_manifest(score_statistics=type(statistics)(1, float("nan"), 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()
    assert Manifest.from_json(tiny_manifest().to_json()) == tiny_manifest()


def test_overwrite_replaces_a_bundle_but_no_other_folder(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    write_bundle(tmp_path / "tiny", tiny_manifest(name="newer"), tiny_files(), overwrite=True)
    assert Bundle(tmp_path / "tiny").manifest.name == "newer"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_text("hours of training")
    with pytest.raises(BundleError, match="no bundle, so it is not replaced"):
        write_bundle(tmp_path / "run", tiny_manifest(), tiny_files(), overwrite=True)
    assert (tmp_path / "run" / "model.safetensors").read_text() == "hours of training"


def test_a_kill_at_any_step_leaves_the_old_or_the_new_bundle_whole() -> None:
    found = outcomes(Path(__file__).with_name("kill_bundle_writers.py"))
    for kind, counts in found.items():
        assert set(counts) <= {"old", "new"}, kind
        assert counts["old"] > 3, kind
    assert found["tiny"]["new"] > 3  # what is left then is the old one's removal
