"""What the figures of `peers.py` come to: the accuracy beside the time of each method, the table and the picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from machine import RESULTS
from matplotlib import pyplot as plt

OURS, WRITTEN, BARE = "simplenet_edge", "as written", "bare backbone"
MARKERS = {"onnxruntime": "o", "openvino": "s", "torch": "^"}
SEEDS = 3


def measured_aurocs(paths: list[Path], result: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """The image AUROC of each method that was measured, and where."""
    found: dict[str, tuple[float, str]] = {}
    for path in paths:
        methods = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.is_file() else {}
        for method, row in methods.items():
            size = re.search(r"(\d+) patches", row["note"])
            name = f"{method.split()[0]}, {_timed_size(int(size[1]), result)} patches" if size else method
            found[name] = (row["image_auroc"], f"peers_training.py: {row['note']}")
    if "padim" in result:
        found["padim"] = (result["padim"]["image_auroc"], "trained in this run")
    fp32 = found.get(OURS, (None, ""))[0]
    if fp32 is not None:
        found[WRITTEN] = (fp32, f"the same model as {OURS}, not folded")
    return found


def _timed_size(size: int, result: dict[str, Any]) -> int:
    """The size of memory that was timed in place of `size`: within 1 %, else `size` itself, which no row has."""
    timed = [int(found[1]) for name in result["rows"] if (found := re.search(r"(\d+) patches", name))]
    return next((near for near in timed if abs(near - size) <= 0.01 * size), size)


def join(result: dict[str, Any], training: list[Path]) -> None:
    """Write the AUROC of each row's method beside its time, and what follows from both."""
    found = measured_aurocs(training, result)
    for name, row in result["rows"].items():
        method, _, runtime = name.rpartition(", ")
        row["method"], row["runtime"] = method, runtime
        row["image_auroc"], row["auroc_from"] = found.get(method, (None, "not measured"))
        if method == OURS and not runtime.endswith("fp32"):
            row["image_auroc"], row["auroc_from"] = result["bundle"]["image_auroc"][runtime.split()[1]], "the bundle"
    seeds = json.loads((RESULTS / "magnetic_tile.json").read_text(encoding="utf-8"))
    result["seeds_image_auroc"] = seeds["categories"][0]["figures"]["image_auroc"]
    ours = min((row for row in result["rows"].values() if row["method"] == OURS), key=lambda row: row["p50_ms"])
    peers = {n: r for n, r in result["rows"].items() if r["method"] not in (OURS, WRITTEN, BARE)}
    fastest = min(peers, key=lambda name: peers[name]["p50_ms"])
    result["verdict"] = {
        "first_in_latency": ours["p50_ms"] < peers[fastest]["p50_ms"],
        "fastest_peer": fastest,
        "peers_at_least_as_fast": [n for n, r in peers.items() if r["p50_ms"] <= ours["p50_ms"]],
        "peers_at_least_as_accurate": [n for n, r in peers.items() if (r["image_auroc"] or 0) >= ours["image_auroc"]],
        "peers_above_the_mean_of_seeds": [
            n for n, r in peers.items() if (r["image_auroc"] or 0) >= result["seeds_image_auroc"]["mean"]
        ],
        "peers_without_auroc": sorted({r["method"] for r in peers.values() if r["image_auroc"] is None}),
    }


def table(result: dict[str, Any]) -> str:
    """The rows as a Markdown table, fastest first."""
    lines = ["| method | runtime | best ms | p50 ms | p90 ms | x ours | image AUROC |", "|---|---|---|---|---|---|---|"]
    for row in sorted(result["rows"].values(), key=lambda row: row["p50_ms"]):
        auroc = "-" if row["image_auroc"] is None else f"{row['image_auroc']:.3f}"
        lines.append(
            f"| {row['method']} | {row['runtime']} | {row['min_ms']:.1f} | {row['p50_ms']:.1f} | {row['p90_ms']:.1f} "
            f"| {row['ratio']:.2f} | {auroc} |"
        )
    return "\n".join(lines)


def draw(result: dict[str, Any], path: Path) -> None:
    """Latency against AUROC, a line a method; what has no AUROC stands below the dotted line."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "peers", "font.size": 9})
    figure, panel = plt.subplots(figsize=(9, 4.2), layout="constrained")
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(result["rows"].values(), key=lambda row: row["p50_ms"]):
        methods.setdefault(row["method"], []).append(row)
    lowest = below = min(row["image_auroc"] for row in result["rows"].values() if row["image_auroc"]) - 0.01
    panel.axhline(lowest, color="#6b7280", ls=":", lw=1)
    for method, rows in methods.items():
        if method == BARE:
            panel.axvline(rows[0]["p50_ms"], color="#c4281c", ls="--", lw=1.2)
            panel.annotate(method, (rows[0]["p50_ms"], 1), xytext=(4, -10), textcoords="offset points", color="#c4281c")
            continue
        below -= 0.01 * (rows[0]["image_auroc"] is None)
        color = "#2f6fde" if method == OURS else "#8fb4f0" if method == WRITTEN else "#6b7280"
        heights = [below if row["image_auroc"] is None else row["image_auroc"] for row in rows]
        panel.plot([row["p50_ms"] for row in rows], heights, "-", color=color, lw=1)
        for row, height in zip(rows, heights, strict=True):
            filled = "none" if row["image_auroc"] is None else color
            panel.plot(row["p50_ms"], height, MARKERS[row["runtime"].split()[0]], color=color, mfc=filled, ms=6)
        label = method if rows[0]["image_auroc"] else f"{method} (AUROC not measured)"
        offset = (0, 6 if method in (OURS, WRITTEN) else -14)
        panel.annotate(label, (rows[0]["p50_ms"], heights[0]), xytext=offset, textcoords="offset points", color=color)
    mean, std = (result["seeds_image_auroc"][key] for key in ("mean", "std"))
    panel.axhspan(mean - std, mean + std, color="#2f6fde", alpha=0.08, lw=0)
    for runtime, marker in MARKERS.items():
        panel.plot([], [], marker, color="#6b7280", label=runtime)
    panel.legend(frameon=False, loc="upper right")
    panel.set_xscale("log")
    panel.set_xlim(right=3 * max(row["p50_ms"] for row in result["rows"].values()))  # room for the last label
    panel.set_ylim(below - 0.01, 1.0)
    panel.set_xlabel("ms from decoded camera image to score and map, median (log scale)")
    panel.set_ylabel("image AUROC")
    panel.set_title(f"One frame, one thread; band: {OURS}, mean and deviation over {SEEDS} seeds", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
