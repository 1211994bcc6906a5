"""`run`: the line, cameras in, verdicts out. No PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from simplenet_edge.cli.console import note, print_json
from simplenet_edge.cli.logs import log_to_stderr
from simplenet_edge.cli.options import EngineOption, PrecisionOption, ThreadsOption
from simplenet_edge.errors import ConfigError

if TYPE_CHECKING:
    from simplenet_edge.runtime.line.line import Summary

__all__ = ["run"]

_SOURCES_HELP = (
    "A folder, an image, a video, a camera number, v4l2:///dev/video0, genicam:CAMERA, csi://0, rtsp://..., "
    "gst:PIPELINE, watch:FOLDER, push://HOST:PORT, test://, or - for standard input. Cameras share the engine. Options "
    "follow a #: name=left, xywh=160,120,320,240, every=2, trigger=stdin."
)
_BESIDE_LINE = ("line", "check", "as_json", "log_level", "help")

_TO_HELP = (
    "Where results go as well; may be repeated: FILE.jsonl, mqtt://HOST/TOPIC, mqtts://..., https://HOOK, "
    "modbus://HOST:502."
)


def run(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="A bundle: a folder, or one .zip file.")
    ] = None,
    source: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help=_SOURCES_HELP)] = None,
    line: Annotated[
        Path | None,
        typer.Option("--line", help="TOML file with the recipes, cameras, sinks and limits of a whole line."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say all that is wrong with the --line file, and start nothing.")
    ] = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="File for the verdicts; standard output when left out.")
    ] = None,
    rotate: Annotated[
        int | None,
        typer.Option("--rotate", help="Start a new --jsonl file after this many MiB; 5 old ones stay.", min=1),
    ] = None,
    fsync: Annotated[
        float | None, typer.Option("--fsync", help="Seconds until --jsonl survives a power cut; 0: each line does.")
    ] = None,
    to: Annotated[list[str] | None, typer.Option("--to", metavar="ADDRESS", help=_TO_HELP)] = None,
    spool: Annotated[
        Path | None, typer.Option("--spool", help="Folder where results wait while a broker or a hook is away.")
    ] = None,
    overlays: Annotated[Path | None, typer.Option("--overlays", help="Folder for images with their heatmap.")] = None,
    overlay: Annotated[str, typer.Option("--overlay", help="Which frames get one: ng or all.")] = "ng",
    quota: Annotated[
        int, typer.Option("--quota", help="Disk space for overlays, MiB; the oldest go first.", min=1)
    ] = 2048,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Folder for camera pictures to learn from: NG, INVALID, near the threshold."),
    ] = None,
    keep_ok: Annotated[
        float, typer.Option("--keep-ok", help="Share of the OK frames that --keep takes, drawn at random.")
    ] = 0.01,
    keep_quota: Annotated[
        int, typer.Option("--keep-quota", help="Disk space for --keep, MiB; the oldest of the largest kind go.", min=1)
    ] = 8192,
    deadline: Annotated[
        float | None, typer.Option("--deadline-ms", help="A verdict later than this after its frame is INVALID.")
    ] = None,
    watch: Annotated[
        str,
        typer.Option(
            "--watch",
            help="Moved cameras, changed light, drifting scores, false rejects: alarm, invalid (and alarm) or off.",
        ),
    ] = "alarm",
    bad_share: Annotated[
        float, typer.Option("--bad-share", help="Share of all parts that may be bad before NG ones are an alarm.")
    ] = 0.1,
    false_rejects: Annotated[
        float | None,
        typer.Option(
            "--false-rejects",
            help="Share of good parts that may be NG before it is one; what the calibration vouches for when left out.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Don't start while a camera, a watched folder, a broker or a PLC is away.")
    ] = False,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    shadow: Annotated[
        Path | None, typer.Option("--shadow", help="A second bundle that scores silently; its verdicts are compared.")
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option("--serve", help="Monitor page, /metrics and /health on PORT (this machine only) or HOST:PORT."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token that the page asks for; needed off this machine."),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Don't replay the golden frames first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; needs --jsonl.")] = False,
) -> None:
    """Inspect every frame of one or more sources; one JSON line a frame.

    What a simple line needs stands on the command line, a whole one in a file: run --line line.toml.

    Runs until the sources end, or until Ctrl-C or SIGTERM. SIGHUP, or the monitor page, puts the shadow's bundle in
    use, or without one the new bundle at the same path, after it has replayed its golden frames.
    """
    from simplenet_edge.workflows.line_file import read_line_file
    from simplenet_edge.workflows.run_line import StationOptions, plan_station, run_station

    if line is not None:
        _require_alone(context)
        station = read_line_file(line)
        if check:
            return note(f"{line}: {len(station.recipes)} recipes, {len(station.sources)} cameras, all in order")
        if as_json and station.options.jsonl is None:
            raise ConfigError("--json needs jsonl in [records], or the verdicts and the summary would be mixed up")
        with log_to_stderr(log_level):
            return _print(run_station(station, note), as_json)
    if bundle is None or not source or check:
        raise ConfigError("expected BUNDLE SOURCE..., or --line FILE, which --check checks")
    if as_json and jsonl is None:
        raise ConfigError("--json needs --jsonl FILE, or the verdicts and the summary would be mixed up")
    options = StationOptions(
        engine=engine,
        precision=precision,
        threads=threads,
        check=not no_check,
        shadow=shadow,
        jsonl=jsonl,
        rotate_bytes=None if rotate is None else rotate * 2**20,
        fsync_s=fsync,
        addresses=tuple(to or ()),
        spool=spool,
        overlays=overlays,
        overlay=cast("Literal['ng', 'all']", overlay),
        quota_bytes=quota * 2**20,
        keep=keep,
        keep_ok=keep_ok,
        keep_quota_bytes=keep_quota * 2**20,
        deadline_ms=deadline,
        strict=strict,
        watch=cast("Literal['alarm', 'invalid', 'off']", watch),
        bad_share=bad_share,
        false_rejects=false_rejects,
        serve=serve,
        token_file=token_file,
    )
    with log_to_stderr(log_level):
        _print(run_station(plan_station(bundle, source, options, note), note), as_json)


def _require_alone(context: typer.Context) -> None:
    """Refuse what the file of --line says, or the one would silently win over the other."""
    given = []
    for parameter in context.command.params:
        name = str(parameter.name)
        found = context.get_parameter_source(name)
        if name not in _BESIDE_LINE and found is not None and found.name != "DEFAULT":
            given.append(parameter.opts[0] if parameter.opts[0].startswith("-") else name.upper())
    if given:
        raise ConfigError(f"{', '.join(given)}: leave out what the file of --line says")


def _print(summary: Summary, as_json: bool) -> None:
    if as_json:
        print_json(summary.to_dict())
        return
    text = f"{summary.frames} frames in {summary.seconds:.1f} s: {summary.ok} OK, {summary.ng} NG"
    text += f", {summary.invalid} INVALID"
    for count, what in ((summary.dropped, "dropped while the line was busy"), (summary.lost, "results lost by sinks")):
        text += f", {count} {what}" if count else ""
    note(text + (" (interrupted)" if summary.interrupted else ""))
