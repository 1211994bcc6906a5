"""Every error that this package raises on purpose, in one tree.

    SimpleNetEdgeError
    ├── ConfigError            an option or a configuration that can't work      exit 2
    ├── DataError              images, masks or folders that can't be used       exit 3
    ├── WeightsError           backbone weights or a checkpoint that don't load  exit 4
    ├── BundleError            a bundle that is missing, damaged or too new      exit 5
    ├── EngineError            an engine that can't start or can't run           exit 6
    │   ├── EngineUnavailable  its library isn't installed
    │   └── EngineInputError   frames that break the input contract
    ├── ParityError            two ways to compute the same numbers disagree     exit 7
    ├── SourceError            a camera, video or folder that gives no frames    exit 8
    ├── SinkError              a file, broker or device that takes no results    exit 9
    ├── RecipeError            a recipe that a line doesn't have, or not loaded  exit 10
    └── LessonRefused          a lesson that would let bad parts pass            exit 11

A message says what was expected, what was found and what to do. The command line prints it on one line and leaves
with `exit_code`; everything else is a bug and keeps its traceback.
"""

from collections.abc import Sequence

__all__ = [
    "BundleError",
    "ConfigError",
    "DataError",
    "EngineError",
    "EngineInputError",
    "EngineUnavailable",
    "LessonRefused",
    "ParityError",
    "RecipeError",
    "SimpleNetEdgeError",
    "SinkError",
    "SourceError",
    "WeightsError",
]


class SimpleNetEdgeError(Exception):
    """The root of the tree; catch it to catch them all."""

    exit_code = 1


class ConfigError(SimpleNetEdgeError):
    """An option or a configuration that can't work."""

    exit_code = 2


class DataError(SimpleNetEdgeError):
    """Images, masks or folders that can't be used."""

    exit_code = 3


class WeightsError(SimpleNetEdgeError):
    """Backbone weights or a checkpoint that don't load."""

    exit_code = 4


class BundleError(SimpleNetEdgeError):
    """A bundle that is missing, damaged or written by a newer version."""

    exit_code = 5


class EngineError(SimpleNetEdgeError):
    """An engine that can't start or can't run."""

    exit_code = 6


class EngineUnavailable(EngineError):
    """An engine's library isn't installed; the message names the command that installs it."""


class EngineInputError(EngineError):
    """Frames that break the input contract of the engine."""


class ParityError(SimpleNetEdgeError):
    """Two ways to compute the same numbers disagree by more than the tolerance."""

    exit_code = 7


class RecipeError(SimpleNetEdgeError):
    """A recipe that the line does not have, or whose model is not loaded."""

    exit_code = 10


class LessonRefused(SimpleNetEdgeError):
    """A lesson that a model can't learn, or that would let bad parts pass: `pictures` are the names of those."""

    exit_code = 11

    def __init__(self, text: str, pictures: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.pictures = tuple(pictures)


class SourceError(SimpleNetEdgeError):
    """A camera, video or folder that gives no frames."""

    exit_code = 8


class SinkError(SimpleNetEdgeError):
    """A file, folder, broker or device that takes no results."""

    exit_code = 9
