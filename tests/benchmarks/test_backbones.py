"""The table of backbones: each at its best size within the default's time, those without weights left out."""

from __future__ import annotations

from typing import Any

from backbones import summary


def row(backbone: str, side: int, ms: float | None, auroc: float | None) -> dict[str, Any]:
    return {"set": "parts", "backbone": backbone, "size_hw": [side, side], "ms": ms, "auroc": auroc}


def test_each_backbone_at_its_best_size_within_the_same_time() -> None:
    rows = [
        row("efficientnet_lite0", 256, 10.0, 0.70),
        row("efficientnet_lite0", 416, 30.0, 0.80),
        row("efficientnet_lite2", 256, 14.0, 0.75),  # too slow for the first line
        row("mobilenet_v2", 256, 9.0, 0.72),
        row("mobilenet_v2", 416, 31.0, 0.71),  # within the slack, and no better
        row("resnet18", 256, None, None),
    ]
    assert summary(rows).splitlines() == [
        "| set | ms | efficientnet_lite0 | efficientnet_lite2 | mobilenet_v2 |",
        "|---|---|---|---|---|",
        "| parts | 10.0 | 0.700 (256x256) | - | 0.720 (256x256) |",
        "| parts | 30.0 | 0.800 (416x416) | 0.750 (256x256) | 0.720 (256x256) |",
    ]
