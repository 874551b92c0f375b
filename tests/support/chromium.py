"""A headless Chromium on a page: what it shows, says and asks for, over DevTools' pipe, which needs no package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

NAMES = ("chromium", "chromium-headless-shell", "chromium-shell", "chromium-browser", "google-chrome")
SECONDS = 60.0


def executable() -> str | None:
    """The first Chromium on PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab of a phone's width. Whatever the page logs, throws or asks for is kept."""

    def __init__(self, send: BinaryIO, receive: BinaryIO) -> None:
        self.send, self.receive = send, receive
        self.numbers = iter(range(1, 10**6))
        self.session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command; events that come first are kept."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        self.send.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.receive.read(1)) != b"\0":
            assert byte, "the browser ended"
            text += byte
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, page: Path, width: int, dark: bool) -> None:
        """Open a page on a phone of this width, and wait until it has loaded."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=2, mobile=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            if time.monotonic() > end:  # else the test would hang
                raise TimeoutError("the page does not load")
            self.events.append(self._next())

    def evaluate(self, script: str) -> Any:
        """The value of a script on the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until a script is true."""
        end = time.monotonic() + SECONDS
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise TimeoutError(script)
            time.sleep(0.05)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def errors(self) -> list[str]:
        """What went to the console, and what was thrown."""
        said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in said]

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        sent = (event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium with a fresh profile, for as long as the block lasts."""
    path = executable()
    assert path is not None
    commands, results = os.pipe(), os.pipe()
    options = ["--headless", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", f"--user-data-dir={profile}"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root otherwise
    shell = f'exec "$0" "$@" 3<&{commands[0]} 4>&{results[1]}'  # the pipe's ends are numbered by convention
    process = subprocess.Popen(
        ["bash", "-c", shell, path, *options],
        pass_fds=(commands[0], results[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands[0])
    os.close(results[1])
    try:
        with os.fdopen(commands[1], "wb", buffering=0) as send, os.fdopen(results[0], "rb") as receive:
            yield Browser(send, receive)
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
