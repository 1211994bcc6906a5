"""Run a line: from objects that the caller made, or from the addresses and options of a person. No PyTorch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from simplenet_edge.engines.fastest import settle_engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.progress import OnMessage, ignore_message
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.drift.drift_monitor import DriftConfig
from simplenet_edge.runtime.hours import read_hours
from simplenet_edge.runtime.http_server import parse_address, read_token
from simplenet_edge.runtime.line.line import Line, LineConfig, Summary
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.process import hangups_ignored
from simplenet_edge.runtime.line.recipes import RecipeConfig
from simplenet_edge.runtime.line.shadow import Shadow
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.monitor.monitor import TOKEN_VARIABLE
from simplenet_edge.runtime.sinks import JsonlSink, OverlaySink, PictureStore, Sink, open_sink
from simplenet_edge.runtime.sources import Source, open_source
from simplenet_edge.runtime.sources.capture import without_password
from simplenet_edge.runtime.status import LineStatus
from simplenet_edge.runtime.teach.line_teacher import LineTeacher

__all__ = [
    "RecipeBundle",
    "Station",
    "StationOptions",
    "plan_station",
    "read_address",
    "run_line",
    "run_station",
    "sink_makers",
]

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
    recipe_memory_bytes: int | None = None  # for the models of the recipes after the first; None: all are loaded
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
    bad_share: float = 0.1  # of all parts, that may be bad before the share of NG ones is an alarm
    false_rejects: float | None = None  # share of good parts that may be NG before it; None: what was calibrated
    strict: bool = False  # don't start while a camera, a folder, a broker or a controller is away
    serve: str | None = None  # PORT or HOST:PORT of the monitor page
    token_file: Path | None = None  # of the page, off this machine; None: from the environment

    def __post_init__(self) -> None:
        if self.watch not in ("alarm", "invalid", "off"):
            raise ConfigError(f"watch must be alarm, invalid or off, not {self.watch!r}")
        if self.overlay not in ("ng", "all"):
            raise ConfigError(f"overlay must be ng or all, not {self.overlay!r}")
        if not 0 <= self.keep_ok <= 1:
            raise ConfigError(f"of the OK frames a share from 0 to 1 is kept, not {self.keep_ok}")
        self.drift()

    def drift(self) -> DriftConfig | None:
        """What the drift monitors look at. Raises ConfigError."""
        config = DriftConfig(
            bad_share=self.bad_share, false_rejects=self.false_rejects, invalidate=self.watch == "invalid"
        )
        return None if self.watch == "off" else config


@dataclass(frozen=True)
class RecipeBundle:
    """The bundle of a recipe. `number` is what a controller may call it instead of its name."""

    bundle: Path
    name: str | None = None  # None: that in the bundle's manifest
    number: int | None = None


@dataclass(frozen=True)
class Station:
    """All that a line is made of; the first recipe is that of frames that name none. Nothing is open yet."""

    recipes: Sequence[RecipeBundle]
    sources: Sequence[Source]
    sinks: Sequence[Sink]
    options: StationOptions


def plan_station(
    bundle: Path, addresses: Sequence[str], options: StationOptions, on_message: OnMessage = ignore_message
) -> Station:
    """The station that inspects the sources at `addresses` with one bundle. Raises ConfigError or SourceError."""
    sources = [open_source(read_address(address, on_message)) for address in addresses]
    sinks = [make() for _, make in sink_makers(options, sources, on_message)]
    return Station([RecipeBundle(bundle)], sources, sinks, options)


def run_station(station: Station, on_message: OnMessage = ignore_message) -> Summary:
    """Inspect every frame of a station's sources.

    Runs until the sources end, or until Ctrl-C or SIGTERM; a swap puts the shadow's bundle in use, or without one the
    new bundle at the path of the first recipe. Raises ConfigError, BundleError, EngineError, ParityError, SourceError
    or SinkError.
    """
    options, sinks = station.options, list(station.sinks)
    first, *others = station.recipes
    config = LineConfig(options.deadline_ms, drift=options.drift(), strict=options.strict)
    choice = settle_engine(first.bundle, options.engine, options.precision, options.threads, options.check)
    on_message(f"engine {choice.name}: {choice.reason}")
    loader = ModelLoader(first.bundle, choice.name, options.precision, choice.threads, options.check)
    with ExitStack() as stack:
        stack.enter_context(hangups_ignored())
        detector = stack.enter_context(_closing(loader.load()))
        recipes = RecipeConfig(
            first.name or detector.bundle.manifest.name,
            {str(recipe.name): dataclasses.replace(loader, path=recipe.bundle).load for recipe in others},
            {str(recipe.number): str(recipe.name) for recipe in station.recipes if recipe.number is not None},
            options.recipe_memory_bytes,
        )
        shadow = None
        if options.shadow is not None:
            beside = dataclasses.replace(loader, path=options.shadow)
            shadow = stack.enter_context(Shadow(stack.enter_context(_closing(beside.load()))))
        status, monitor = LineStatus(), None
        if options.serve is not None:
            host, port = parse_address(options.serve)
            monitor = Monitor(status, host=host, port=port, token=read_token(options.token_file, TOKEN_VARIABLE))
            sinks.append(monitor.sink)
        line = Line(
            station.sources,
            detector,
            sinks,
            config,
            status=status,
            shadow=shadow,
            reload=loader.load,
            recipes=recipes,
        )
        if monitor is not None:
            monitor.swap, monitor.select = line.swap, line.recipes.select
            if options.keep is not None:
                monitor.teach = LineTeacher(line, loader, options.keep, recipes.first).teach
            if options.jsonl is not None:
                status.add_past(read_hours(options.jsonl))
            on_message(f"monitor page: {stack.enter_context(monitor).url}")
        return line.run()


def sink_makers(
    options: StationOptions, sources: Sequence[Source], on_message: OnMessage = ignore_message
) -> list[tuple[str, Callable[[], Sink]]]:
    """What makes each sink that the options ask for, and what to call it where that fails."""
    folders = [source.folder for source in sources if source.folder is not None]
    makers: list[tuple[str, Callable[[], Sink]]] = [
        ("records", lambda: JsonlSink(options.jsonl, rotate_bytes=options.rotate_bytes, fsync_s=options.fsync_s))
    ]
    for number, address in enumerate(options.addresses, 1):
        makers.append((f"sink {number}", partial(_sink_at, address, options.spool, on_message)))
    if (overlays := options.overlays) is not None:
        drawn = partial(OverlaySink, overlays, options.overlay, folders, quota_bytes=options.quota_bytes)
        makers.append(("overlays", partial(drawn, min_free_bytes=_MIN_FREE_BYTES)))
    if (keep := options.keep) is not None:
        kept = partial(PictureStore, keep, folders, ok_share=options.keep_ok, quota_bytes=options.keep_quota_bytes)
        makers.append(("keep", partial(kept, min_free_bytes=_MIN_FREE_BYTES)))
    return makers


def _sink_at(address: str, spool: Path | None, on_message: OnMessage) -> Sink:
    return open_sink(read_address(address, on_message), spool_folder=spool)


def read_address(text: str, on_message: OnMessage = ignore_message) -> str:
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
