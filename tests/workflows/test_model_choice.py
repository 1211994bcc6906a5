"""`train --latency`: what is tried is kept, what is too slow is not taken, a device's benchmark scales the times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import to_dict
from simplenet_edge.training.options import TrainingOptions
from simplenet_edge.training.recipes import prepare
from simplenet_edge.workflows.model_choice import choose_model, frame_ms
from simplenet_edge.workflows.pareto import pareto_svg

SMALL: dict[str, Any] = {"backbone": "efficientnet_lite0", "size_hw": (64, 64)}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder, rng = tmp_path_factory.mktemp("good"), np.random.default_rng(0)
    for i in range(6):
        noise = cv2.GaussianBlur(rng.normal(128, 40, (80, 80, 3)).astype(np.float32), (0, 0), 2)
        cv2.imwrite(str(folder / f"{i}.png"), np.clip(noise, 0, 255).astype(np.uint8))
    return [Sample(path) for path in sorted(folder.iterdir())]


@pytest.mark.slow
def test_the_best_within_the_time_is_chosen_and_the_search_goes_on(good: list[Sample], tmp_path: Path) -> None:
    stages: list[tuple[int, int]] = []
    options = TrainingOptions(**SMALL, latency_ms=1e5, search_s=1e-9)  # one candidate at least
    messages: list[str] = []
    chosen = choose_model(good, options, tmp_path, on_message=messages.append)
    assert any("ended after" in message and "1 of 3" in message for message in messages)
    assert (chosen.backbone, chosen.size_hw, chosen.memory) == ("efficientnet_lite0", (64, 64), 4000)

    longer = TrainingOptions(**SMALL, latency_ms=1e5)
    chosen = choose_model(good, longer, tmp_path, progress=lambda _, done, total: stages.append((done, total)))
    tried = json.loads((tmp_path / "model_choice.json").read_text(encoding="utf-8"))["tried"]
    assert stages == [(1, 3), (2, 3), (3, 3)]
    assert [(row["memory"], len(row["layers"])) for row in tried] == [(4000, 3), (1000, 3), (4000, 2)]
    best = max(tried, key=lambda row: round(row["auroc"], 3))
    assert round(best["auroc"], 3) == max(
        round(row["auroc"], 3)
        for row in tried
        if (row["memory"], tuple(row["layers"])) == (chosen.memory, chosen.layers)
    )
    ElementTree.fromstring((tmp_path / "model_choice.svg").read_text(encoding="utf-8"))

    slowest = min(row["latency_ms"] for row in tried) / 2
    with pytest.raises(ConfigError, match=r"no model takes .* ms or less .* smaller --size"):
        choose_model(good, TrainingOptions(**SMALL, latency_ms=slowest), tmp_path)
    assert json.loads((tmp_path / "model_choice.json").read_text(encoding="utf-8"))["tried"] == tried


@pytest.mark.slow
def test_a_benchmark_of_another_device_scales_the_times(good: list[Sample], tmp_path: Path) -> None:
    options = TrainingOptions(**SMALL, memory=100)
    model = prepare(options)[0]
    here_ms = frame_ms(model)
    result = {
        "model": to_dict(model.config),
        "model_hw": [64, 64],
        "results": [{"scenario": "single-stream", "latency": {"p50_ms": 1000 * here_ms}}],
    }
    (tmp_path / "device.json").write_text(json.dumps(result), encoding="utf-8")
    on_device = TrainingOptions(**SMALL, memory=100, latency_ms=1e9, latency_from=tmp_path / "device.json")
    choose_model(good, on_device, tmp_path / "run")
    tried = json.loads((tmp_path / "run" / "model_choice.json").read_text(encoding="utf-8"))["tried"]
    assert all(row["latency_ms"] > 50 * here_ms for row in tried)  # a thousand times, on a machine that may be busy


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {}, "model_hw": [64, 64], "results": []}'])
def test_what_is_no_benchmark_is_refused(good: list[Sample], tmp_path: Path, text: str) -> None:
    (tmp_path / "device.json").write_text(text, encoding="utf-8")
    options = TrainingOptions(**SMALL, latency_ms=10, latency_from=tmp_path / "device.json")
    with pytest.raises(DataError, match=r"device.json: expected what `simplenet-edge benchmark"):
        choose_model(good, options, tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"latency_ms": 0.0}, "must be positive"),
        ({"latency_ms": 5.0, "recipe": "paper"}, "goes with the default recipe"),
        ({"latency_from": Path("x.json")}, "give both"),
        ({"latency_ms": 5.0, "weights": Path("x.pth")}, "name it with --backbone"),
    ],
)
def test_options_that_do_not_go_together(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainingOptions(**values)


def test_the_picture_joins_those_that_nothing_beats_and_escapes_names() -> None:
    points = [(5.0, 0.7, "a<b"), (20.0, 0.9, "c"), (10.0, 0.6, "d")]
    root = ElementTree.fromstring(pareto_svg(points, 1, 15.0))
    space = "{http://www.w3.org/2000/svg}"
    (front,) = root.iter(f"{space}polyline")
    assert len(front.attrib["points"].split()) == 2
    circles = list(root.iter(f"{space}circle"))
    assert [circle.attrib["class"] for circle in circles] == ["model", "chosen", "model"]
    assert next(circles[0].iter(f"{space}title")).text == "a<b: 5.0 ms, 0.700"
