"""`auto` for a line on a CPU: of the engines that give the bundle's numbers, the fastest here, with its threads."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.selection import Choice, choose_engine, cpu_engines, open_engine
from simplenet_edge.engines.verify import verify
from simplenet_edge.errors import EngineError, ParityError
from simplenet_edge.spec import Frames
from simplenet_edge.system import physical_cores

__all__ = ["choose_fastest", "settle_engine"]

_MEASURED_S = 1.0  # for all candidates together
_PATIENCE_S = 5.0  # no other candidate is opened after that


@dataclass(frozen=True)
class _Candidate:
    name: str
    threads: int

    def __str__(self) -> str:
        return f"{self.name} with {self.threads} thread{'s' if self.threads > 1 else ''}"


def choose_fastest(
    bundle: Bundle,
    precision: str = "fp32",
    measure: Callable[[Engine, Frames, float], float] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """Like `choose_engine`, but engines on the CPU are tried on the golden frames, with all, half and one of the cores.

    One that does not give the bundle's numbers is out. `measure` gives the milliseconds per frame of an open engine,
    for golden frames uint8 `(N, H, W, 3)`, in about that many seconds. Raises what `choose_engine` raises, BundleError,
    and what the first candidate said where all are out.
    """
    choice = choose_engine("auto", precision)
    names = cpu_engines(precision)
    if choice.name not in names:
        return choice
    cores = physical_cores()
    candidates = [
        _Candidate(name, threads) for threads in sorted({cores, cores // 2 or 1, 1}, reverse=True) for name in names
    ]
    measure = measure or _median_ms
    frames, _ = bundle.golden()
    times: dict[_Candidate, float] = {}
    errors: dict[_Candidate, Exception] = {}
    started = clock()
    for candidate in candidates:
        if times and clock() - started > _PATIENCE_S:
            break
        try:
            with open_engine(bundle, candidate.name, precision, candidate.threads) as engine:
                verify(engine).require()
                times[candidate] = measure(engine, frames, _MEASURED_S / len(candidates))
        except (EngineError, ParityError) as error:
            errors[candidate] = error
    if not times:
        raise next(iter(errors.values()))
    fastest = min(times, key=times.__getitem__)
    others = [f"{one} {ms:.1f} ms" for one, ms in times.items() if one != fastest]
    others += [f"{one} refused: {error}" for one, error in errors.items()]
    others += [f"{one} not tried" for one in candidates if one not in times and one not in errors]
    reason = f"{times[fastest]:.1f} ms per golden frame with --threads {fastest.threads}, the fastest here"
    return Choice(fastest.name, f"{reason} ({'; '.join(others)})" if others else reason, fastest.threads)


def settle_engine(path: Path, engine: str, precision: str, threads: int | None, measure: bool = True) -> Choice:
    """The engine and threads of a program that runs a bundle for long: as they were asked for, or else measured here.

    Raises what `choose_engine` and `choose_fastest` raise.
    """
    if engine == "auto" and threads is None and measure:
        return choose_fastest(Bundle(path), precision)
    return dataclasses.replace(choose_engine(engine, precision), threads=threads)


def _median_ms(engine: Engine, frames: Frames, seconds: float) -> float:
    """The median time of single frames, after `verify` has warmed the engine up; at least one is measured."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        index = len(times) % len(frames)
        started = time.perf_counter()
        engine.predict(frames[index : index + 1])
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)
