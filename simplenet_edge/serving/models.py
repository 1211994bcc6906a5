"""What is served: models by name, each in one version or several, each with an open engine and its queue."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simplenet_edge.contract import FRAMES, MAP, SCORE
from simplenet_edge.engines.base import Engine
from simplenet_edge.errors import ConfigError
from simplenet_edge.serving.batcher import BatchConfig, Batcher

if TYPE_CHECKING:
    from simplenet_edge.serving.metrics import ServingMetrics

__all__ = ["PLATFORM", "ModelVersion", "Models", "check_name"]

PLATFORM = "simplenet_edge"


def check_name(name: str) -> str:
    """A name as models may have it, in addresses and as folders. Raises ConfigError."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is None:
        raise ConfigError(
            f"expected a model's name of at most 100 letters, digits, dots, dashes and underscores, found "
            f"{reprlib.repr(name)}; name it yourself"
        )
    return name


class ModelVersion:
    """One bundle on its engine, which is open and stays the caller's; `batcher` runs inside `Models`."""

    def __init__(self, name: str, version: str, engine: Engine, config: BatchConfig, metrics: ServingMetrics) -> None:
        self.name = name
        self.version = version
        self.frame_hw = engine.frame_hw
        self.parameters: dict[str, Any] = {
            "bundle_id": engine.bundle.id,
            "precision": engine.precision,
            "engine": engine.name,
            "threshold": engine.bundle.record(engine.precision).operating_point.threshold,
        }
        self._map_hw = engine.map_hw
        self.batcher = Batcher(engine.predict, config, partial(metrics.count_batch, name, version))

    def to_dict(self, versions: Sequence[str]) -> dict[str, Any]:
        """The metadata, as plain JSON values; `versions` are all of this name."""
        return {
            "name": self.name,
            "versions": list(versions),
            "platform": PLATFORM,
            "inputs": [{"name": FRAMES, "datatype": "UINT8", "shape": [-1, *self.frame_hw, 3]}],
            "outputs": [
                {"name": SCORE, "datatype": "FP32", "shape": [-1]},
                {"name": MAP, "datatype": "FP32", "shape": [-1, *self._map_hw]},
            ],
            "parameters": self.parameters,
        }


class Models:
    """A context manager that computes for all of them; at its end what waits is computed first.

    The engines of one name are its versions 1, 2, ... in their order. Raises ConfigError for a name that can't be one.
    """

    def __init__(self, engines: Sequence[tuple[str, Engine]], config: BatchConfig, metrics: ServingMetrics) -> None:
        self.config = config
        self._models: dict[str, dict[str, ModelVersion]] = {}
        self._stack = ExitStack()
        for name, engine in engines:
            versions = self._models.setdefault(check_name(name), {})
            version = str(len(versions) + 1)
            versions[version] = ModelVersion(name, version, engine, config, metrics)
        for one in self:
            metrics.add_model(one.name, one.version, one.parameters, one.batcher.waiting)

    def __iter__(self) -> Iterator[ModelVersion]:
        for versions in self._models.values():
            yield from versions.values()

    def find(self, name: str, version: str | None = None) -> ModelVersion:
        """A model in a version, without one in its newest. Raises LookupError."""
        versions = self.versions(name)
        if version is None:
            return list(versions.values())[-1]
        if version not in versions:
            raise LookupError(f"expected a version of {name} from {', '.join(versions)}, found {reprlib.repr(version)}")
        return versions[version]

    def versions(self, name: str) -> Mapping[str, ModelVersion]:
        """All versions of a model, the newest last. Raises LookupError."""
        if name not in self._models:
            raise LookupError(f"expected a model from {', '.join(self._models)}, found {reprlib.repr(name)}")
        return self._models[name]

    def __enter__(self) -> Models:
        for one in self:
            self._stack.enter_context(one.batcher)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self:  # all at once: none takes more while another ends
            one.batcher.close()
        self._stack.close()
