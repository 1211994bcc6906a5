"""`inspect`: what a bundle says about itself. No PyTorch."""

from __future__ import annotations

import json

from simplenet_edge.cli.console import print_json, print_table
from simplenet_edge.cli.options import BundleArgument, JsonOption

__all__ = ["inspect"]


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle says about itself, after checking every file's hash."""
    from simplenet_edge.bundle import Bundle

    opened = Bundle(bundle)
    manifest = opened.manifest
    if as_json:
        print_json({"id": opened.id, **json.loads(manifest.to_json())})
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
        rows += [
            (precision, record.graph),
            ("  threshold", f"{point.threshold:.6g}"),
            ("  false rejects", f"{guarantee}, from {point.n_calibration} good images"),
            ("  good scores", f"{statistics.min:.4g} .. {statistics.median:.4g} .. {statistics.max:.4g}"),
        ]
        figures = {name: value for name, value in record.metrics.items() if isinstance(value, float)}
        if figures:
            rows.append(("  measured", ", ".join(f"{name} {value:.4f}" for name, value in figures.items())))
    rows += [(f"version of {name}", version) for name, version in manifest.versions.items()]
    print_table(manifest.name, ("", ""), rows)
