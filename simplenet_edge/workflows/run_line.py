"""Run a line: from objects that the caller made, or from the addresses and options of a person. No PyTorch."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.fastest import choose_fastest
from simplenet_edge.engines.selection import choose_engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.progress import OnMessage, ignore_message
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.runtime.hours import read_hours
from simplenet_edge.runtime.http_server import parse_address
from simplenet_edge.runtime.line.line import Line, LineConfig, Summary
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.process import hangups_ignored
from simplenet_edge.runtime.line.shadow import Shadow
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.sinks import JsonlSink, OverlaySink, PictureStore, Sink, open_sink
from simplenet_edge.runtime.sources import Source, open_source
from simplenet_edge.runtime.sources.capture import without_password
from simplenet_edge.runtime.status import LineStatus

__all__ = ["StationOptions", "run_line", "run_station"]

_MIN_FREE_BYTES = 256 * 2**20  # overlays and kept pictures leave so much of the disk to everything else


def run_line(
    sources: Sequence[Source], detector: Detector, sinks: Sequence[Sink] = (), config: LineConfig | None = None
) -> Summary:
    """Inspect every frame of `sources` until they end, or until Ctrl-C or SIGTERM; the results go to `sinks`.

    The detector's engine is open and stays the caller's. Raises what `Line` and `Line.run` raise.
    """
    return Line(sources, detector, sinks, config).run()


@dataclass(frozen=True)
class StationOptions:
    """How a station beside the line runs. Raises ConfigError."""

    engine: str = "auto"  # auto on a CPU without threads: measured for a second, the fastest wins
    precision: str = "fp32"
    threads: int | None = None  # CPU threads of the engine; None: its own choice
    check: bool = True  # replay the golden frames first
    shadow: Path | None = None  # a second bundle that scores silently
    jsonl: Path | None = None  # file for the verdicts; None: standard output
    rotate_bytes: int | None = None  # start a new JSONL file after this many bytes
    fsync_s: float | None = None  # until the JSONL file survives a power cut; 0: each line does
    addresses: tuple[str, ...] = ()  # where results go as well, as `open_sink` reads them
    spool: Path | None = None  # folder where results wait while a broker or a hook is away
    overlays: Path | None = None  # folder for images with their heatmap
    overlay: Literal["ng", "all"] = "ng"  # which frames get one
    quota_bytes: int = 2048 * 2**20  # disk space for overlays; the oldest go first
    keep: Path | None = None  # folder for pictures to learn from
    keep_ok: float = 0.01  # share of the OK frames among them
    keep_quota_bytes: int = 8192 * 2**20  # disk space for them
    deadline_ms: float | None = None  # a verdict later than this after its frame is INVALID
    watch: Literal["alarm", "invalid", "off"] = "alarm"  # what moved cameras, changed light and drift lead to
    strict: bool = False  # don't start while a camera, a folder, a broker or a controller is away
    serve: str | None = None  # PORT or HOST:PORT of the monitor page
    token_file: Path | None = None  # of the page, off this machine; None: from the environment

    def __post_init__(self) -> None:
        if self.watch not in ("alarm", "invalid", "off"):
            raise ConfigError(f"--watch must be alarm, invalid or off, not {self.watch!r}")
        if self.overlay not in ("ng", "all"):
            raise ConfigError(f"--overlay must be ng or all, not {self.overlay!r}")
        if not 0 <= self.keep_ok <= 1:
            raise ConfigError(f"--keep-ok must be a share from 0 to 1, not {self.keep_ok}")


def run_station(
    bundle: Path, addresses: Sequence[str], options: StationOptions, on_message: OnMessage = ignore_message
) -> Summary:
    """Inspect every frame of the sources at `addresses` with a bundle, as `options` say.

    Runs until the sources end, or until Ctrl-C or SIGTERM; a swap puts the shadow's bundle in use, or without one the
    new bundle at the same path. Raises ConfigError, BundleError, EngineError, ParityError, SourceError or SinkError.
    """
    sources = [open_source(_address(address, on_message)) for address in addresses]
    sinks = _sinks(options, sources, on_message)
    drift = None if options.watch == "off" else DriftConfig(invalidate=options.watch == "invalid")
    config = LineConfig(options.deadline_ms, drift=drift, strict=options.strict)
    if options.engine == "auto" and options.threads is None and options.check:
        choice = choose_fastest(Bundle(bundle), options.precision)
    else:
        choice = dataclasses.replace(choose_engine(options.engine, options.precision), threads=options.threads)
    on_message(f"engine {choice.name}: {choice.reason}")
    loader = ModelLoader(bundle, choice.name, options.precision, choice.threads, options.check)
    with ExitStack() as stack:
        stack.enter_context(hangups_ignored())
        detector = stack.enter_context(_closing(loader.load()))
        shadow = None
        if options.shadow is not None:
            beside = dataclasses.replace(loader, path=options.shadow)
            shadow = stack.enter_context(Shadow(stack.enter_context(_closing(beside.load()))))
        status, monitor = LineStatus(), None
        if options.serve is not None:
            host, port = parse_address(options.serve)
            monitor = Monitor(status, host=host, port=port, token=_token(options.token_file))
            sinks.append(monitor.sink)
        line = Line(sources, detector, sinks, config, status=status, shadow=shadow, reload=loader.load)
        if monitor is not None:
            monitor.swap, monitor.select = line.swap, line.recipes.select
            if options.jsonl is not None:
                status.add_past(read_hours(options.jsonl))
            on_message(f"monitor page: {stack.enter_context(monitor).url}")
        return line.run()


def _sinks(options: StationOptions, sources: Sequence[Source], on_message: OnMessage) -> list[Sink]:
    sinks: list[Sink] = [JsonlSink(options.jsonl, rotate_bytes=options.rotate_bytes, fsync_s=options.fsync_s)]
    addresses = [_address(address, on_message) for address in options.addresses]
    sinks += [open_sink(address, spool_folder=options.spool) for address in addresses]
    folders = [source.folder for source in sources if source.folder is not None]
    if options.overlays is not None:
        sinks.append(
            OverlaySink(
                options.overlays,
                options.overlay,
                folders,
                quota_bytes=options.quota_bytes,
                min_free_bytes=_MIN_FREE_BYTES,
            )
        )
    if options.keep is not None:
        sinks.append(
            PictureStore(
                options.keep,
                folders,
                ok_share=options.keep_ok,
                quota_bytes=options.keep_quota_bytes,
                min_free_bytes=_MIN_FREE_BYTES,
            )
        )
    return sinks


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("SIMPLENET_EDGE_MONITOR_TOKEN")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file}: expected a file with the token in it ({error})") from error


def _address(text: str, on_message: OnMessage) -> str:
    """The address of a source or a sink; `@FILE` is the one in a file, where nobody sees the password in it."""
    if text.startswith("@"):
        try:
            (line,) = Path(text[1:]).read_text(encoding="utf-8").strip().splitlines()
            return line
        except (OSError, ValueError) as error:
            raise ConfigError(f"{text}: expected a file with one address on one line ({error})") from error
    if re.search(r"://[^/@\s]*:[^/@\s]+@", text):
        on_message(f"warning: the process list shows the password in {without_password(text)}; name a file: @FILE")
    return text


@contextmanager
def _closing(detector: Detector) -> Iterator[Detector]:
    try:
        yield detector
    finally:
        detector.engine.close()
