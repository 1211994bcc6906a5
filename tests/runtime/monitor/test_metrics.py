from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from simplenet_edge.runtime.monitor.metrics import metrics_text
from simplenet_edge.runtime.snapshot import ShadowSnapshot
from simplenet_edge.runtime.status import LineStatus
from tests.bundles import THRESHOLD
from tests.runtime.monitor.conftest import Make

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(status: LineStatus) -> Samples:
    """Each sample of the text, as Prometheus' own parser reads it, by its name and labels."""
    return {
        (sample.name.removeprefix("simplenet_edge_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics_text(status).decode())
        for sample in family.samples
    }


def at(samples: Samples, name: str, **labels: Any) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_every_number_of_the_status_is_there(status: LineStatus, make: Make) -> None:
    for verdict in ("OK", "OK", "NG", "INVALID"):
        status.add(make(verdict))
    status.connection("top", connected=False, reconnects=4)
    status.raise_alarm("drift", "scores rise", "top")
    known = status.snapshot()
    assert known.model is not None
    assert known.recipes is not None
    status.put_parts(known.model, known.recipes, ShadowSnapshot("abc", 9, 3, 2, 1, skipped=5, error=None), known.sinks)
    samples = samples_of(status)
    assert at(samples, "frames_total", camera="top", verdict="OK") == 2
    assert at(samples, "frames_total", camera="top", verdict="NG") == 1
    assert at(samples, "frames_total", camera="top", verdict="INVALID") == 1
    assert at(samples, "invalid_total", camera="top", cause="source") == 1
    assert at(samples, "dropped_frames_total", camera="top") == status.snapshot().to_dict()["cameras"]["top"]["dropped"]
    assert at(samples, "reconnects_total", camera="top") == 4
    assert (at(samples, "recipe_selected", recipe="gear"), at(samples, "recipe_loaded", recipe="shaft")) == (1, 0)
    assert at(samples, "camera_connected", camera="top") == 0
    assert at(samples, "latency_seconds", camera="top", quantile="0.99") == 0.008
    assert at(samples, "fps", camera="top") > 0
    assert at(samples, "healthy") == 0
    assert at(samples, "state", state="running") == 1
    assert at(samples, "state", state="stopped") == 0
    assert at(samples, "alarm", kind="drift", camera="top") == 1
    assert at(samples, "sink_written_total", sink="line.jsonl") == 7
    assert at(samples, "sink_lost_total", sink="line.jsonl") == 3
    assert at(samples, "sink_waiting", sink="line.jsonl") == 1
    assert at(samples, "sink_failing", sink="line.jsonl") == 1
    assert at(samples, "threshold") == THRESHOLD
    assert at(samples, "model_swaps_total") == 1
    (info,) = (dict(labels) for name, labels in samples if name == "model_info")
    assert (info["name"], info["engine"], info["precision"]) == ("tiny", "fake", "fp32")
    assert at(samples, "shadow_disagreed_total", direction="ng_to_ok") == 1
    assert at(samples, "shadow_compared_total") == 9


def test_names_with_quotes_and_newlines_survive(make: Make) -> None:
    status = LineStatus()
    name = 'a "b"\\\nc'
    status.add_camera(name, live=True)
    status.add(make("OK", name))
    assert at(samples_of(status), "frames_total", camera=name, verdict="OK") == 1


def test_a_line_that_has_only_just_started(make: Make) -> None:
    samples = samples_of(LineStatus())
    assert at(samples, "state", state="starting") == 1
    assert at(samples, "healthy") == 0
