"""The only module that imports Ray, when it is first needed: a cluster to work on, blocks of rows, and single tasks.

A cluster of our own listens on the loopback only, reports to nobody, shows no dashboard, and is gone afterwards with
its files. One that is joined by its address is left as it is.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simplenet_edge.archive.options import LOCAL
from simplenet_edge.contract import one_line
from simplenet_edge.errors import ConfigError, EngineError, EngineUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["cluster_resources", "map_blocks", "ray_cluster", "run_tasks"]

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # for a cluster that takes a connection and then says nothing
}
_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for the loopback instead of the network's address
    "RAY_enable_open_telemetry": "0",
}
_HOME = "SIMPLENET_EDGE_HOME"  # what workers of a cluster that is started here find their home folder in
_OBJECT_BYTES = 256 * 2**20  # of shared memory for what travels between processes: paths, rows, a bundle
_LONGEST_SOCKET_FOLDER = 30  # characters: Ray puts sockets below it, whose paths Linux limits to 107
_MOST_DIGITS = 5  # of a port
_ANSWER_S = 10.0  # for a cluster to take a connection, which Ray itself would wait for without end


@contextmanager
def ray_cluster(address: str = LOCAL, cpus: int | None = None) -> Iterator[None]:
    """Work on the cluster at `address`, or on one of this machine alone with `cpus` processors, inside, where nothing
    goes to standard output.

    One that this process has joined already is used as it is. Raises EngineUnavailable without Ray, ConfigError where
    no cluster answers.
    """
    ray = _import_ray(own=address == LOCAL)
    if ray.is_initialized():
        yield
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    with ExitStack() as stack:
        try:
            if address == LOCAL:
                folder = Path(stack.enter_context(_temporary_folder()))
                with _no_stderr():
                    _start(ray, folder, cpus, quiet)
            else:
                _knock(address)
                with _no_stderr():
                    ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError, OverflowError, ray.exceptions.RayError) as error:
            where = "Ray can't be started here" if address == LOCAL else f"no Ray cluster answers at {address}"
            raise ConfigError(f"{where} ({one_line(error)}); check the address, or try without --ray") from error
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(nowhere))  # Ray prints there when a worker dies
        stack.callback(ray.shutdown)
        yield


def _start(ray: Any, folder: Path, cpus: int | None, quiet: dict[str, Any]) -> None:
    """A cluster of this machine. Ray's head asks the cloud's metadata service which cloud it is in, unless a file in
    the home folder tells; so for the length of the start another folder is the home, which `_at_home` undoes.
    """
    (folder / "ray_bootstrap_config.yaml").write_text("{}\n")
    home = os.environ.get("HOME", "/")
    os.environ.update({"HOME": str(folder), _HOME: home})
    try:
        ray.init(
            address=LOCAL,
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_BYTES,
            _temp_dir=str(folder),
            **quiet,
        )
    finally:
        os.environ["HOME"] = home


def _at_home() -> None:
    """In a worker: the home folder is the user's again, where stores keep their credentials."""
    os.environ["HOME"] = os.environ.get(_HOME, os.environ.get("HOME", "/"))


def _knock(address: str) -> None:
    """See that somebody listens at HOST:PORT. Raises OSError."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and len(port) <= _MOST_DIGITS:
        socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), _ANSWER_S).close()


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Without the lines that Ray's C++ writes before it knows its level; what goes wrong is raised."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _LONGEST_SOCKET_FOLDER else "/tmp"
    return tempfile.TemporaryDirectory(prefix="simplenet-", dir=place, ignore_cleanup_errors=True)


def cluster_resources() -> tuple[int, int]:
    """The processors and GPUs of the cluster that is joined."""
    found = _import_ray().cluster_resources()
    return int(found.get("CPU", 0)), int(found.get("GPU", 0))


def map_blocks(
    worker: Callable[..., Any], job: Any, blocks: Sequence[pa.Table], workers: int, cpus: int, gpus: int
) -> Generator[pa.Table, None, None]:
    """What `workers` instances of the class `worker` make of `blocks`, in the order in which they are done.

    Each is made with `job`, which travels once, holds `cpus` processors and `gpus` GPUs, and is called with a block at
    a time. Raises EngineError where workers die.
    """
    ray = _import_ray()
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    dataset = ray_data.from_arrow(list(blocks)).map_batches(
        _Worker,
        fn_constructor_args=(worker, ray.put(job)),
        compute=ray_data.ActorPoolStrategy(size=workers),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"a worker failed ({one_line(error)}); check that each node of the cluster has this version of "
            "simplenet-edge[archive] and memory enough, or take fewer --workers"
        ) from error
    finally:  # an iterator that is left early has a thread yet, and Ray ends the process where Ray goes first
        for thread in threading.enumerate():
            if thread.name == "iter_threaded":
                thread.join(_ANSWER_S)


class _Worker:
    """An instance of the class that `map_blocks` was given, on its node."""

    def __init__(self, worker: Callable[..., Any], job: Any) -> None:
        _at_home()
        self._call = worker(_import_ray().get(job))

    def __call__(self, block: pa.Table) -> pa.Table:
        return self._call(block)


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], cpus: int, gpus: int = 0
) -> Iterator[tuple[int, Any]]:
    """The index and the result of `function(*task)` for each task, as they end; an exception that it raised is given
    and not raised, so that the others go on. Each holds `cpus` processors and `gpus` GPUs, and is not tried again.
    """
    ray = _import_ray()

    def work(*task: Any) -> Any:
        _at_home()
        return function(*task)

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(work)
    waiting = {remote.remote(*task): i for i, task in enumerate(tasks)}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            i = waiting.pop(done)
            try:
                yield i, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                yield i, error.cause
            except ray.exceptions.RayError as error:
                yield i, error
    finally:
        for task in waiting:
            ray.cancel(task, force=True)


def _import_ray(own: bool = False) -> Any:
    """Ray, told to be quiet before it is imported; `own` for a cluster that is started here."""
    for name, value in {**_QUIET, **(_OWN if own else {})}.items():
        os.environ.setdefault(name, value)
    if own:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # not a file in the home folder
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EngineUnavailable(
            f"archives are scored through Ray, which does not load ({one_line(error)}); "
            "run: pip install 'simplenet-edge[archive]'"
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is raised
    return ray
