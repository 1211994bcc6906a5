"""`teach` and `lessons`: what a bundle learns at the line, and what it has learned. No PyTorch."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simplenet_edge.cli.console import note, print_json, print_table, progress_on_terminal, warn
from simplenet_edge.cli.options import BundleArgument, JsonOption, OverwriteOption
from simplenet_edge.errors import ConfigError
from simplenet_edge.progress import ignore

if TYPE_CHECKING:
    from simplenet_edge.runtime.teach.lesson import Lesson

__all__ = ["lessons", "teach"]


def teach(
    bundle: BundleArgument,
    good: Annotated[
        list[Path] | None, typer.Option("--good", help="Image, or folder of images, of rejected parts that are good.")
    ] = None,
    bad: Annotated[list[Path] | None, typer.Option("--bad", help="The same of parts that are bad.")] = None,
    kept: Annotated[
        Path | None,
        typer.Option("--kept", help="Folder of run --keep: of its rejected parts only those marked good may pass."),
    ] = None,
    most: Annotated[int, typer.Option("--most", help="Of the --kept ones the newest that are looked at.", min=1)] = 200,
    by: Annotated[str | None, typer.Option("--by", help="Who says so; the user's name when left out.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new bundle; BUNDLE-lesson1 beside it when left out.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Teach a bundle that rejected parts are good, in seconds: the threshold and its guarantee stay as they are.

    Refused where a bad part, a golden one or one of --kept would pass then. Bad parts that pass are kept as evidence.
    """
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.runtime.teach.pictures import kept_pictures, read_pictures
    from simplenet_edge.runtime.teach.teach import MarkedPictures, taught_path
    from simplenet_edge.runtime.teach.teach import teach as teach_bundle

    opened = Bundle(bundle)
    spec = opened.manifest.input
    marked = MarkedPictures(
        read_pictures(good or [], spec),
        read_pictures(bad or [], spec),
        [] if kept is None else kept_pictures(kept, spec, most),
    )
    with progress_on_terminal() as progress:
        taught, lesson = teach_bundle(
            opened,
            marked,
            output or taught_path(opened),
            by=by or getpass.getuser(),
            overwrite=overwrite,
            progress=progress or ignore,
        )
    if as_json:
        print_json({"bundle": str(taught.path), "id": taught.id, **lesson.to_dict()})
        return
    _print(lesson)
    note(f"bundle: {taught.path} ({taught.id})")


def lessons(
    bundle: BundleArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder for the frames, in good and bad, to train or to test with."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a bundle was taught at the line: by whom, with which pictures, and what it changed."""
    from simplenet_edge.bundle import Bundle
    from simplenet_edge.files import write_folder
    from simplenet_edge.runtime.teach.lesson import read_lessons

    opened = Bundle(bundle)
    found = read_lessons(opened)
    if output is not None and output.exists():
        raise ConfigError(f"{output} exists; name a new folder for the frames")
    if output is not None and found:
        pictures = [(lesson.number, one) for lesson in found for one in lesson.pictures]
        write_folder(
            output,
            {
                f"{one.mark}/lesson{number}-{Path(one.file).name}": opened.read_bytes(one.file)
                for number, one in pictures
            },
        )
    if as_json:
        print_json({"id": opened.id, "lessons": [lesson.to_dict() for lesson in found]})
        return
    for lesson in found:
        _print(lesson)
    note(f"{opened.path} ({opened.id}): {len(found)} lessons")


def _print(lesson: Lesson) -> None:
    rows = [
        (picture.mark, picture.name, precision, f"{before:.6g}", f"{picture.after[precision]:.6g}")
        for picture in lesson.pictures
        for precision, before in picture.before.items()
    ]
    title = f"lesson {lesson.number}: {lesson.created} by {lesson.by}, of bundle {lesson.parent}"
    print_table(title, ("part", "picture", "precision", "score before", "after"), rows)
    for precision, threshold in lesson.thresholds.items():
        note(
            f"{precision}: {lesson.patches[precision]} patches learned, room for {lesson.spare[precision]} more; "
            f"threshold {threshold:.6g} as before; golden scores change by at most {lesson.golden[precision]:.3g}; "
            f"{lesson.kept} kept pictures looked at"
        )
    for picture in lesson.missed:
        lowest = min(picture.after[name] - threshold for name, threshold in lesson.thresholds.items())
        warn(f"{picture.name} is bad and passes: only a threshold lower by {-lowest:.3g} would catch it")
