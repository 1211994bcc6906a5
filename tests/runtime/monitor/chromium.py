"""A headless Chromium, spoken to over the pipe of its DevTools protocol: nothing to install but the browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 60.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """The browser's command; without one, the test is skipped."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is installed")
    return found


class Chromium:
    """One page of a fresh headless browser, `width` x `height` pixels; a context manager."""

    def __init__(self, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
        self.errors: list[str] = []
        self._size, self._scheme = (width, height), scheme
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        # The shell turns standard input and output into the descriptors 3 and 4 that the browser speaks on.
        command = [find_chromium(), *_FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2', "sh", *command, "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._buffer = b""
        self._last_id = 0
        self._session: str | None = None

    def __enter__(self) -> Chromium:
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            width, height = self._size
            for domain in ("Page", "Runtime", "Log"):
                self._call(f"{domain}.enable")
            self._call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            scheme = {"name": "prefers-color-scheme", "value": self._scheme}
            self._call("Emulation.setEmulatedMedia", features=[scheme])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, and forget its profile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the browser leaves when its pipe ends
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._profile.cleanup()

    def open(self, url: str) -> None:
        """Go to a page, and forget what was wrong with the one before."""
        self._call("Page.navigate", url="about:blank")
        self.errors.clear()
        self._call("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Go on when the JavaScript expression counts as true."""
        until = time.monotonic() + _PATIENCE_S
        while not self.run(f"Boolean(document.body && ({condition}))"):
            if time.monotonic() > until:
                page = self.run("document.body && document.body.innerText")
                raise AssertionError(f"never true: {condition}\n{page}\n{self.errors}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What the first element that matches says."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, key: str) -> None:
        """Press and release a key, such as `h` or `Enter`."""
        code = {"Enter": 13, "Escape": 27}.get(key, ord(key[0].upper()))
        typed = {"Enter": "\r", "Escape": ""}.get(key, key)
        keys: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=typed, **keys)
        self._call("Input.dispatchKeyEvent", type="keyUp", **keys)

    def screenshot(self, path: Path) -> None:
        """The page as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> Any:
        assert self._process.stdin is not None
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            self._note(answer)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        while b"\0" not in self._buffer:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def _note(self, message: Any) -> None:
        """Keep what the page's console would show as an error."""
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(str(message["params"]["entry"]["text"]))


def take_screenshot(url: str, path: Path, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
    """A PNG of the monitor at `url` once it shows a verdict of every camera, with its picture."""
    shown = "[...document.querySelectorAll('.camera')].every((c) => !c.querySelector('.picture img').hidden)"
    with Chromium(width, height, scheme) as page:
        page.open(url)
        page.wait_for(f"document.querySelector('.camera') && {shown}")
        page.wait_for("[...document.images].every((image) => image.complete)")
        page.screenshot(path)
