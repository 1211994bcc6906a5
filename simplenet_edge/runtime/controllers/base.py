"""What every controller is: signals that it sets, signals that we set, and nothing else.

One part goes like this. Each side sets its signals and looks at the other's; nothing is counted in time but the
watchdog and the deadline, so that neither side can miss the other.

    controller                          line
                                        ready
    part_id, recipe, then trigger  ->
                                   <-   busy, not ready
                                   <-   valid with part_id, verdict, score; or error with the same part_id
    acknowledge, no trigger        ->
                                   <-   nothing of that part any more; ready
    no acknowledge                 ->

A verdict is never shown without the id of its part, and never after the controller has acknowledged it. A part without
a verdict in time, a trigger that comes before `ready`, and one that is taken back are errors with the part's id.
`watchdog` changes several times a second for as long as the line lives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from simplenet_edge.runtime.records import VerdictName

__all__ = ["Answer", "Controller", "Request"]


@dataclass(frozen=True)
class Request:
    """What the controller sets. `part_id` and `recipe` belong to the trigger; empty where it says none."""

    trigger: bool = False
    acknowledge: bool = False
    part_id: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Answer:
    """What the line sets. `verdict`, `score` and `part_id` count while `valid` or `error` is set, INVALID where both
    are not; `reason` says why a part is INVALID or what the error is."""

    ready: bool = False
    busy: bool = False
    valid: bool = False
    error: bool = False
    part_id: str = ""
    recipe: str = ""
    verdict: VerdictName = "INVALID"
    score: float | None = None
    reason: str = ""


class Controller(ABC):
    """A connection to one controller. All methods but `wake` are called from one thread.

    Raises SourceError where the controller can't be reached or refuses; it is then closed, and opened again after a
    pause. `name` is what logs call it; it holds no password.
    """

    name: str

    @abstractmethod
    def open(self) -> None:
        """Connect, or listen; where that fails give back what was taken."""

    @abstractmethod
    def exchange(self, answer: Answer, watchdog: bool) -> Request:
        """Show the controller our signals, and read its own. Within some milliseconds."""

    @abstractmethod
    def close(self) -> None:
        """Leave; what the controller sees last is neither ready nor a verdict."""
