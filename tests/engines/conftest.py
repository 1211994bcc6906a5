"""What every engine is tried on, and the engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines import Engine, engine_names, engine_problem, open_engine
from tests.engines.tensorrt.simulated_gpu import HostMemory, install_simulation

Simulate = Callable[..., list[HostMemory]]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Put a simulated GPU with a simulated TensorRT of a version into this machine; gives the memories opened on it."""

    return partial(install_simulation, monkeypatch)


_REAL = [name for name in engine_names() if name != "auto"]
_SIMULATED = ("tensorrt", "tensorrt_rtx")


@pytest.fixture(params=[*_REAL, *(f"simulated {name}" for name in _SIMULATED)])
def engine(request: pytest.FixtureRequest, bundle: Bundle, simulate: Simulate) -> Engine:
    """Each engine, not open yet; TensorRT on a real GPU where there is one, and simulated everywhere."""
    simulated, _, name = request.param.rpartition(" ")
    if simulated:
        simulate()
    elif (problem := engine_problem(name)) is not None:
        pytest.skip(f"{name} can't run here: {problem}")
    return open_engine(bundle, name)
