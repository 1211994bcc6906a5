"""`cameras`: which cameras this machine has. No PyTorch."""

from __future__ import annotations

import dataclasses

import typer

from simplenet_edge.cli.console import note, print_json
from simplenet_edge.cli.logs import printable
from simplenet_edge.cli.options import JsonOption

__all__ = ["cameras"]


def cameras(as_json: JsonOption = False) -> None:
    """List the cameras that answer, as `run` takes them: GenICam (GigE Vision, USB3 Vision) and V4L2."""
    from simplenet_edge.runtime.sources.listing import list_cameras

    found = list_cameras()
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    for camera in found.cameras:  # no table: its columns would cut addresses that are to be copied
        about = " ".join(part for part in (camera.kind, camera.vendor, camera.model, camera.serial) if part)
        typer.echo(printable(f"{camera.source}  {about} ({camera.address})"))
    if not found.cameras:
        note("no camera found")
    if found.problem is not None:
        note(found.problem)
