"""An OPC UA server after OPC 40100-1 (Machine Vision): the controller, its client, starts each job and gets its result.

There is no bit to acknowledge a result in OPC 40100-1: the line's answer counts as acknowledged once it has been made a
result of its own, which is told by an event and can be fetched by its id. `docs/plant.md` says what a client calls.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING

from simplenet_edge.errors import ConfigError, SimpleNetEdgeError, SourceError
from simplenet_edge.runtime.controllers.base import Answer, Controller, Request
from simplenet_edge.runtime.controllers.vision_system import VisionSystem
from simplenet_edge.runtime.http_server import in_url, listening_socket

if TYPE_CHECKING:
    from simplenet_edge.runtime.controllers.opcua_server import VisionServer

__all__ = ["OpcUaController"]

_START_S = 60.0
_STOP_S = 10.0


class OpcUaController(Controller):
    """Listens at `opc.tcp://host:port/simplenet-edge` from `open` on, with a thread of its own.

    A line that makes no `exchange` for `silence_s` seconds is shown in Error, and no job is accepted. `open` raises
    SourceError where asyncua is missing or the address can't be listened on.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 4840, *, silence_s: float = 2.0) -> None:
        if not 0 < port < 65536:
            raise ConfigError(f"an OPC UA server needs a port from 1 to 65535, not {port}; 4840 is usual")
        self.host = host
        self.port = port
        self.silence_s = silence_s
        self.name = f"opc.tcp://{in_url(host, port)}/simplenet-edge"
        self._system = VisionSystem(silence_s)
        self._watchdog: bool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: VisionServer | None = None
        self._thread: threading.Thread | None = None
        self._serving: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Build the address space, a second or two, and listen."""
        try:  # sooner and more clearly than the server says it
            listening_socket(self.host, self.port).close()
        except SimpleNetEdgeError as error:
            raise SourceError(str(error)) from error
        try:
            from simplenet_edge.runtime.controllers.opcua_server import VisionServer
        except ImportError as error:
            raise SourceError(
                f"an OPC UA server needs {error.name}; run: pip install 'simplenet-edge[opcua]'"
            ) from error
        self._system, self._watchdog = VisionSystem(self.silence_s), None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"opcua {self.port}", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(VisionServer), self._loop)
        try:
            starting.result(_START_S)
        except (OSError, FutureTimeoutError) as error:
            self._end_loop()
            raise SourceError(f"{self.name} can't be served ({error or 'it took too long'})") from error
        except BaseException:
            self._end_loop()
            raise

    def exchange(self, answer: Answer, watchdog: bool) -> Request:
        """Show the line's signals to clients, and say what they want."""
        serving, loop, server = self._serving, self._loop, self._server
        if serving is None or loop is None or server is None:
            raise SourceError(f"{self.name} is not open")
        if serving.done():
            raise SourceError(f"{self.name} has stopped ({serving.exception()})")
        request = self._system.exchange(answer)
        if self._system.has_news or watchdog != self._watchdog:
            self._watchdog = watchdog
            loop.call_soon_threadsafe(server.wake, watchdog)
        return request

    def close(self) -> None:
        """Abort a job that runs, show Preoperational, and free the port."""
        loop, server, serving = self._loop, self._server, self._serving
        self._server = self._serving = None
        if loop is None:
            return
        if server is not None and serving is not None:
            self._system.leave("Preoperational", "the line stopped")
            with suppress(Exception):  # whatever it is, the loop ends, and with it all connections
                asyncio.run_coroutine_threadsafe(_stop(server, serving), loop).result(_STOP_S)
        self._end_loop()

    async def _start(self, kind: type[VisionServer]) -> None:
        server = kind(self.name, self._system)
        await server.start()
        self._server, self._serving = server, asyncio.get_running_loop().create_task(server.run())

    def _end_loop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        assert loop is not None
        assert thread is not None
        with suppress(FutureTimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(_STOP_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_S)
        if not thread.is_alive():
            loop.close()


async def _stop(server: VisionServer, serving: asyncio.Task[None]) -> None:
    server.end()
    await asyncio.wait({serving})
    await server.stop()


async def _cancel_all() -> None:
    """What a server that failed has left running."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
