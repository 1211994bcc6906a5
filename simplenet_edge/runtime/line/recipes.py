"""Changeover: the models of a line by the recipe of the part, loaded ahead as far as a memory budget goes."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from simplenet_edge.errors import ConfigError, RecipeError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.snapshot import RecipesSnapshot
from simplenet_edge.system import resident_bytes

__all__ = ["RecipeConfig", "Recipes"]

_log = logging.getLogger(__name__)

_END_S = 2.0
_RETRY_S = 10.0  # after a model that did not load


@dataclass(frozen=True)
class RecipeConfig:
    """The recipes of a line. Raises ConfigError."""

    first: str  # the recipe of the model that the line starts with, and of frames that name none
    others: Mapping[str, Callable[[], Detector]] = field(default_factory=dict)  # how the other models are loaded
    numbers: Mapping[str, str] = field(default_factory=dict)  # what else a controller may call them: number to name
    memory_bytes: int | None = None  # for the other models together; None: all are loaded at the start

    def __post_init__(self) -> None:
        names = {self.first, *self.others}
        if self.first in self.others:
            raise ConfigError(f"the recipe {self.first!r} is there twice; give each a name of its own")
        if not set(self.numbers.values()) <= names or names & self.numbers.keys():
            raise ConfigError(f"expected a number of its own for each of the recipes {', '.join(sorted(names))}")
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise ConfigError(f"memory_bytes must be at least 1, not {self.memory_bytes}")


class Recipes:
    """Which detector judges the parts of a recipe. A context manager; `sweep` belongs to the thread that runs engines.

    `first` gives the model that the line started with, or that a swap put in its place; its engine is the caller's.
    Entering loads the others in order, while the budget lasts, and raises what loading raises. One that is asked for
    and not loaded is loaded in a thread, where need be in the place of those that were used the longest ago; its parts
    are INVALID meanwhile. The size of a model is what the process grows by while
    it is loaded, or its graph's where that is more (memory that was free before is used again).
    """

    def __init__(self, config: RecipeConfig, first: Callable[[], Detector]) -> None:
        self.config = config
        self._first = first
        self._changed = threading.Condition()  # guards all below
        self._loaded: OrderedDict[str, Detector] = OrderedDict()  # the one used last is the last
        self._bytes: dict[str, int] = {}  # of each that was ever loaded
        self._wanted: str | None = None
        self._loading: str | None = None
        self._errors: dict[str, tuple[float, str]] = {}  # when it did not load, and why
        self._evicted: list[Detector] = []
        self._selected: deque[tuple[float, str]] = deque([(float("-inf"), config.first)], maxlen=64)
        self._closed = False
        self._thread = threading.Thread(target=self._load_wanted, name="recipes", daemon=True)

    def __enter__(self) -> Recipes:
        try:
            for name in self.config.others:
                if not self._fits(name):
                    _log.warning("recipe %s and those after it are loaded when they are asked for", name)
                    break
                self._load(name)
        except BaseException:
            self._close_all()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            _log.warning("the line ends while a recipe is being loaded")
        else:
            self._close_all()

    def name(self, recipe: str) -> str:
        """The recipe that a controller means by a name or a number; what it says itself where that is none."""
        return self.config.numbers.get(recipe, recipe)

    def select(self, recipe: str) -> str:
        """The recipe, from now on, of frames that name none; begins to load it. Returns its name. Raises RecipeError.

        Frames that were taken before stay with the recipe that was selected then.
        """
        name = self.name(recipe)
        self._require_known(name)
        with self._changed:
            self._selected.append((time.monotonic(), name))
            if name != self.config.first and name not in self._loaded:
                self._want(name)
        return name

    def selected(self, at_s: float) -> str:
        """The recipe that was selected at a `time.monotonic`, for a frame that was taken then."""
        with self._changed:
            return next((name for since_s, name in reversed(self._selected) if since_s <= at_s), self._selected[0][1])

    def detector(self, name: str | None) -> Detector:
        """The model of a recipe; the first one where no recipe is named.

        Raises RecipeError where there is none, or where it is not loaded yet.
        """
        if name is None or name == self.config.first:
            return self._first()
        self._require_known(name)
        with self._changed:
            if (detector := self._loaded.get(name)) is not None:
                self._loaded.move_to_end(name)
                return detector
            failed_s, why = self._errors.get(name, (float("-inf"), ""))
            if time.monotonic() - failed_s < _RETRY_S:
                raise RecipeError(f"recipe {name} was not loaded: {why}")
            self._want(name)
        raise RecipeError(f"recipe {name} is being loaded; its parts are inspected once it is")

    def sweep(self) -> None:
        """Close the engines of models that had to make room; between two calls of an engine."""
        if not self._evicted:  # as nearly always, without the lock
            return
        with self._changed:
            evicted, self._evicted = self._evicted, []
        for detector in evicted:
            detector.engine.close()
        with self._changed:
            self._changed.notify_all()

    def snapshot(self) -> RecipesSnapshot:
        """What is selected and loaded now."""
        with self._changed:
            return RecipesSnapshot(
                selected=self._selected[-1][1],
                names=(self.config.first, *self.config.others),
                loaded=(self.config.first, *sorted(self._loaded)),
                loading=self._loading or self._wanted,
                errors={name: why for name, (_, why) in self._errors.items()},
            )

    def _require_known(self, name: str) -> None:
        if name != self.config.first and name not in self.config.others:
            known = ", ".join((self.config.first, *self.config.others))
            raise RecipeError(f"no recipe is called {name!r}; this line has {known}")

    def _want(self, name: str) -> None:
        if self._loading != name:
            self._wanted = name
            self._changed.notify_all()

    def _load_wanted(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted is not None)
                if self._closed:
                    return
                assert self._wanted is not None
                name, self._wanted = self._wanted, None
                if name in self._loaded:
                    continue
                self._loading = name
                self._make_room(name)
            started_s = time.monotonic()
            try:
                self._load(name)
                _log.warning("recipe %s is loaded after %.1f s", name, time.monotonic() - started_s)
            except Exception as error:  # a bundle or an engine that fails must not take the other recipes with it
                _log.error("recipe %s was not loaded: %s", name, error)
                with self._changed:
                    self._errors[name] = (time.monotonic(), str(error) or type(error).__name__)
            finally:
                with self._changed:
                    self._loading = None

    def _load(self, name: str) -> None:
        before = resident_bytes() or 0
        detector = self.config.others[name]()
        if (found := detector.spec.bit_depth) != (expected := self._first().spec.bit_depth):
            detector.engine.close()
            raise ConfigError(
                f"recipe {name} takes 16-bit images of {found} bits and {self.config.first} of {expected}; "
                "train one anew"
            )
        graph_bytes = detector.bundle.graph_bytes(detector.engine.precision)
        with self._changed:
            grown = (resident_bytes() or 0) - before
            self._bytes[name] = max(grown, graph_bytes, self._bytes.get(name, 0))
            self._errors.pop(name, None)
            self._loaded[name] = detector

    def _make_room(self, name: str) -> None:
        """Evict what was used the longest ago, and wait until `sweep` has closed it."""
        while self._loaded and not self._fits(name):
            oldest, detector = self._loaded.popitem(last=False)
            _log.warning("recipe %s makes room for %s", oldest, name)
            self._evicted.append(detector)
        self._changed.wait_for(lambda: self._closed or not self._evicted, timeout=_END_S)

    def _fits(self, name: str) -> bool:
        """Whether it stays within the budget; one that was never loaded counts as much as the largest that was."""
        if self.config.memory_bytes is None:
            return True
        size = self._bytes.get(name, max(self._bytes.values(), default=0))
        return sum(self._bytes[loaded] for loaded in self._loaded) + size <= self.config.memory_bytes

    def _close_all(self) -> None:
        for detector in (*self._loaded.values(), *self._evicted):
            detector.engine.close()
        self._loaded.clear()
        self._evicted.clear()
