"""`inspect`: what a bundle says about itself. No PyTorch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from simplenet_edge.cli.console import print_json, print_table
from simplenet_edge.cli.options import BundleArgument, JsonOption

__all__ = ["inspect"]


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle says about itself, after checking every file's hash, and the TensorRT plans built for it."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.engines.tensorrt.plan_store import PlanStore, plan_folder

    opened = Bundle(bundle)
    manifest = opened.manifest
    plans, problems = PlanStore(plan_folder(opened)).all()
    if as_json:
        listed = [
            {"path": str(plan.path), **dataclasses.asdict(plan.key), "created": plan.build["created"]} for plan in plans
        ]
        print_json({"id": opened.id, **json.loads(manifest.to_json()), "plans": listed, "damaged_plans": problems})
        return
    rows = [
        ("id", opened.id),
        ("created", manifest.created),
        ("backbone", f"{manifest.model.backbone}: {', '.join(manifest.model.layers)}"),
        ("remembered patches", f"at most {manifest.model.memory_size}"),
        ("model frame", f"{manifest.input.height} x {manifest.input.width}, {manifest.input.resize}"),
        ("takes frames of", " x ".join(map(str, opened.frame_hw))),
    ]
    for precision, record in manifest.precisions.items():
        point, statistics = record.operating_point, record.score_statistics
        guarantee = f"at most {point.alpha:.2%}" if point.guaranteed else "no guarantee"
        of_parts = "" if point.n_parts is None else f" of {point.n_parts} parts"
        rows += [
            (precision, record.graph),
            ("  threshold", f"{point.threshold:.6g}"),
            ("  false rejects", f"{guarantee}, from {point.n_calibration} good images{of_parts}"),
            ("  good scores", f"{statistics.min:.4g} .. {statistics.median:.4g} .. {statistics.max:.4g}"),
        ]
        figures = {name: value for name, value in record.metrics.items() if isinstance(value, float)}
        if figures:
            rows.append(("  measured", ", ".join(f"{name} {value:.4f}" for name, value in figures.items())))
        if "visibility" in record.metrics:
            rows.append(("  smallest visible", _smallest(record.metrics["visibility"], point.threshold)))
    for plan in plans:
        key = plan.key
        where = f"{key.flavour} {key.version}, GPU {', '.join(key.gpus)}, {key.platform}, batch up to {key.max_batch}"
        rows.append((f"plan for {key.precision}", f"{where}, {plan.build['created'][:10]}"))
    rows += [("damaged plan", problem) for problem in problems]
    rows += [(f"version of {name}", version) for name, version in manifest.versions.items()]
    print_table(manifest.name, ("", ""), rows)


def _smallest(visibility: Any, threshold: float) -> str:
    """The a90/95 of each kind of defect, where its contrast is largest."""
    try:
        if visibility["threshold"] != threshold:
            return (
                f"measured at another threshold, {visibility['threshold']:.6g}; run `simplenet-edge visibility` again"
            )
        contrast = max(visibility["config"]["contrasts"])
        of_kinds = [row for row in visibility["sizes"] if row["region"] is None and row["contrast"] == contrast]
        found = {row["kind"]: row["a90_95_px"] for row in of_kinds}
        sizes = [f"{kind} -" if size is None else f"{kind} {size:.3g}" for kind, size in found.items()]
    except (KeyError, TypeError, ValueError):
        return "not readable by this version; run `simplenet-edge visibility` again"
    return f"{', '.join(sizes)} px at contrast {contrast:.0%} (a90/95)"
