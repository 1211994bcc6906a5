from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peers_figures import draw, join, table


def _result() -> dict[str, Any]:
    times = {
        "simplenet_edge, openvino fp32": 10.0,
        "simplenet_edge, openvino int8": 6.0,
        "as written, torch fp32": 40.0,
        "bare backbone, openvino fp32": 8.0,
        "patchcore, 100 patches, openvino fp32": 30.0,
        "padim, torch fp32": 9.0,
        "efficientad, torch fp32": 90.0,
    }
    rows = {name: {"min_ms": ms, "p50_ms": ms, "p90_ms": ms, "ratio": ms / 10} for name, ms in times.items()}
    return {"rows": rows, "padim": {"image_auroc": 0.8}, "bundle": {"image_auroc": {"fp32": 0.95, "int8": 0.94}}}


def test_each_row_gets_its_own_accuracy_and_the_verdict_follows(tmp_path: Path) -> None:
    methods = {
        "patchcore": {
            "note": "coreset 1.0%, 101 patches in memory",
            "image_auroc": 0.97,
        },  # within 1 % of what is timed
        "simplenet_edge": {"note": "", "image_auroc": 0.95},
    }
    training = tmp_path / "training.json"
    training.write_text(json.dumps({"methods": methods}))
    result = _result()
    join(result, [training, tmp_path / "not there yet.json"])
    assert {name: row["image_auroc"] for name, row in result["rows"].items()} == {
        "simplenet_edge, openvino fp32": 0.95,
        "simplenet_edge, openvino int8": 0.94,
        "as written, torch fp32": 0.95,
        "bare backbone, openvino fp32": None,
        "patchcore, 100 patches, openvino fp32": 0.97,
        "padim, torch fp32": 0.8,
        "efficientad, torch fp32": None,
    }
    verdict = result["verdict"]
    assert verdict["first_in_latency"]  # with INT8
    assert verdict["peers_at_least_as_accurate"] == ["patchcore, 100 patches, openvino fp32"]
    assert verdict["peers_without_auroc"] == ["efficientad"]
    del result["rows"]["simplenet_edge, openvino int8"]
    join(result, [training])
    assert not result["verdict"]["first_in_latency"]
    assert result["verdict"]["peers_at_least_as_fast"] == ["padim, torch fp32"]
    assert table(result).splitlines()[2].startswith("| bare backbone | openvino fp32 | 8.0 ")
    draw(result, tmp_path / "peers.svg")
    assert "AUROC not measured" in (tmp_path / "peers.svg").read_text(encoding="utf-8")
