from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from simplenet_edge.benchmark.plots import plots
from simplenet_edge.benchmark.report import compare, differences, load, markdown, tables, warnings
from simplenet_edge.benchmark.results import BenchmarkConfig
from simplenet_edge.benchmark.run import Candidate, benchmark
from simplenet_edge.benchmark.statistics import summarise
from simplenet_edge.bundle import Bundle
from simplenet_edge.errors import DataError

Values = dict[str, Any]


@pytest.fixture(scope="module")
def measured(bundle: Bundle) -> Values:
    """A real result as it is read from a file; tests must not change it."""
    config = BenchmarkConfig(batch_sizes=(1, 2), duration_s=0.05, max_warmup=2, camera_hw=(90, 160))
    result = benchmark(bundle, (Candidate("onnxruntime", threads=1),), config)
    return json.loads(json.dumps(result.to_dict()))


@pytest.fixture
def quiet(measured: Values) -> Values:
    """The same, with calls that give no cause for doubt."""
    values = copy.deepcopy(measured)
    values["environment"]["governor"] = "performance"
    values["activity"] = {"own": 0.4, "others": 0.01, "stolen": 0.0}
    for row in values["results"]:
        set_calls(row, 10 + 0.1 * np.random.default_rng(0).random(400))
    return values


def set_calls(row: Values, calls_ms: np.ndarray) -> None:
    row["samples_ms"] = calls_ms.tolist()
    row["latency"] = json.loads(json.dumps(vars(summarise(calls_ms))))


def test_tables_have_every_measurement(measured: Values) -> None:
    found = {title.partition(":")[0]: (columns, rows) for title, columns, rows in tables(measured)}
    assert list(found) == ["single-stream", "offline", "stream", "stages of stream, mean ms a call", "engines"]
    columns, rows = found["single-stream"]
    assert columns[1] == "p90 ms"  # MLPerf's figure comes first
    assert [row[0] for row in rows] == ["onnxruntime fp32"]
    assert [row[0] for row in found["offline"][1]] == ["onnxruntime fp32, batch 1", "onnxruntime fp32, batch 2"]
    for columns, rows in found.values():
        assert {len(row) for row in rows} == {len(columns)}


def test_energy_has_a_column_where_it_was_measured(quiet: Values) -> None:
    quiet["results"][0]["mj_per_frame"] = 812.3
    _, columns, rows = tables(quiet)[0]
    assert columns[-1] == "mJ/frame"
    assert rows[0][-1] == "812"


def test_markdown_is_one_section_with_the_machine(measured: Values) -> None:
    text = markdown(measured)
    assert text.startswith(f"## tiny ({measured['bundle_id']}), 32x48 pixels\n")
    assert "| onnxruntime fp32, batch 2 |" in text
    assert measured["environment"]["cpu"] in text
    assert f"onnxruntime {measured['environment']['versions']['onnxruntime']}" in text


def test_nothing_to_doubt(quiet: Values) -> None:
    assert warnings(quiet) == []


@pytest.mark.parametrize(
    ("doubt", "text"),
    [
        (lambda v: set_calls(v["results"][0], np.tile([5.0, 20.0], 200)), "spread widely"),
        (lambda v: set_calls(v["results"][0], np.full(50, 10.0)), "too few calls"),
        (lambda v: set_calls(v["results"][0], np.linspace(10, 11, 400)), "slower than the first"),
        (lambda v: v["activity"].update(others=0.3), "other programs took 30%"),
        (lambda v: v["activity"].update(stolen=0.2), "other virtual machines took 20%"),
        (lambda v: v["environment"].update(governor="powersave"), "'powersave'"),
        (lambda v: v["engines"][0].update(agrees=False), "its speed is worth nothing"),
        (lambda v: v["failures"].append("tensorrt fp16: no GPU"), "not measured: tensorrt fp16: no GPU"),
    ],
    ids=["spread", "few", "trend", "busy", "stolen", "governor", "drift", "failure"],
)
def test_each_doubt_is_one_line(quiet: Values, doubt: Any, text: str) -> None:
    doubt(quiet)
    (line,) = warnings(quiet)
    assert text in line


def test_a_machine_that_tells_nothing_is_no_doubt(quiet: Values) -> None:
    quiet["activity"] = quiet["environment"]["governor"] = None
    assert warnings(quiet) == []


def test_compare_finds_what_changed_and_only_that(quiet: Values) -> None:
    after = copy.deepcopy(quiet)
    set_calls(after["results"][0], np.array(quiet["results"][0]["samples_ms"]) * 0.8)
    changes = compare(quiet, after)
    assert [change.verdict for change in changes] == ["faster", *["no difference shown"] * 4]
    assert changes[0].ratio == pytest.approx(0.8, rel=0.01)
    assert changes[0].interval[0] < 0.8 < changes[0].interval[1]
    assert compare(after, quiet)[0].verdict == "slower"
    assert changes[0].label == "onnxruntime fp32, single-stream"
    json.dumps([change.to_dict() for change in changes], allow_nan=False)


def test_one_engine_each_is_held_against_the_other(quiet: Values) -> None:
    after = copy.deepcopy(quiet)
    for row in (after["engines"][0], *after["results"]):
        row.update(engine="openvino", precision="int8")
    assert compare(quiet, after)[0].label == "onnxruntime fp32, single-stream -> openvino int8, single-stream"
    after["engines"].append(after["engines"][0])  # with several, names must match
    with pytest.raises(DataError, match="in common"):
        compare(quiet, after)


def test_differences_of_machine_and_model_are_told(quiet: Values) -> None:
    assert differences(quiet, copy.deepcopy(quiet)) == []
    after = copy.deepcopy(quiet)
    after.update(bundle_id="other")
    after["environment"].update(cpu="another CPU", date="later", load_average=[9, 9, 9])
    after["environment"]["versions"]["numpy"] = "0.1"
    told = " ".join(differences(quiet, after))
    assert "bundle_id" in told
    assert "another CPU" in told
    assert "numpy" in told
    assert "later" not in told
    after["activity"]["others"] = 0.4
    assert "other programs took 1% -> 40%" in " ".join(differences(quiet, after))


def test_a_saved_result_loads(measured: Values, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(measured))
    assert load(tmp_path / "a.json") == measured


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "no benchmark result"), ('{"results": []}', "schema"), (None, "can't be read")],
)
def test_files_that_are_no_result_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.json")


def test_plots_are_well_formed_and_hold_every_call(measured: Values) -> None:
    found = plots(measured)
    assert len(found) == 1 + 2 * len(measured["results"])
    assert "onnxruntime fp32" in found["engines.svg"]
    assert found["engines.svg"].count('<rect class="bar"') == 1
    assert "onnxruntime-fp32-single-stream-calls.svg" in found
    for name, text in found.items():
        root = ElementTree.fromstring(text)
        if name.endswith("-calls.svg"):
            dots = root.findall("{http://www.w3.org/2000/svg}circle")
            assert len(dots) in {len(row["samples_ms"]) for row in measured["results"]}
            for dot in dots:
                assert 0 <= float(dot.attrib["cx"]) <= 720
                assert 0 <= float(dot.attrib["cy"]) <= 300
