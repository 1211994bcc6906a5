"""Which engine runs a bundle: by name, or the best one that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.fake import FakeEngine
from simplenet_edge.engines.ort import OnnxRuntimeEngine
from simplenet_edge.errors import ConfigError, EngineUnavailable

__all__ = ["Choice", "choose_engine", "engine_names", "open_engine"]


@dataclass(frozen=True)
class Choice:
    """The name of an engine and, in one sentence, why it was chosen."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Engine]
    takes_threads: bool


_ENGINES = {
    OnnxRuntimeEngine.name: _Entry(OnnxRuntimeEngine, takes_threads=True),
    FakeEngine.name: _Entry(FakeEngine, takes_threads=False),
}

_AUTO = ((OnnxRuntimeEngine.name, "onnxruntime"),)
"""What "auto" tries, best first: the engine and the library it needs."""


def engine_names() -> tuple[str, ...]:
    """What `open_engine` accepts."""
    return ("auto", *_ENGINES)


def choose_engine(engine: str = "auto") -> Choice:
    """The engine that a name stands for.

    "auto" is the best engine whose library is installed; it is never the fake one. Raises ConfigError for an unknown
    name, EngineUnavailable when "auto" finds none.
    """
    if engine in _ENGINES:
        return Choice(engine, "asked for by name")
    if engine != "auto":
        raise ConfigError(f"no engine is called {engine!r}; known are {', '.join(engine_names())}")
    for name, library in _AUTO:
        if importlib.util.find_spec(library) is not None:
            return Choice(name, f"the best engine that is installed: {library} is here")
    raise EngineUnavailable("no engine is installed; run: pip install 'simplenet-edge[ort]'")


def open_engine(bundle: Bundle, engine: str = "auto", precision: str = "fp32", threads: int | None = None) -> Engine:
    """An engine for a bundle, to be entered with `with`; nothing is loaded before that.

    Raises what `choose_engine` raises, and ConfigError for `threads` that the engine can't take.
    """
    name = choose_engine(engine).name
    entry = _ENGINES[name]
    if entry.takes_threads:
        return entry.build(bundle, precision, threads=threads)
    if threads is not None:
        raise ConfigError(f"the {name} engine has no threads to set; leave --threads out")
    return entry.build(bundle, precision)
