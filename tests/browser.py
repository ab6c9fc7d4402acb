"""A headless Chromium for tests of pictures: what is drawn is looked at, pixel by pixel, and pressed.

It is driven through the DevTools protocol over a pipe (`--remote-debugging-pipe`: messages are JSON, ended by a zero byte),
so no driver and no port is needed, and it has no network.

    with Browser(tmp_path) as browser:
        page = browser.open(path)
        page.click(100, 50)
        assert page.pixel(100, 50) == (255, 0, 0)
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from PIL import Image

_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
    "--hide-scrollbars", "--disable-lcd-text", "--proxy-server=127.0.0.1:9", "--remote-debugging-pipe",
)  # fmt: skip
Colour = tuple[int, int, int]


def chromium() -> str | None:
    """The program's path, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class BrowserError(AssertionError):
    """The browser refused something, or a script in the page raised."""


class Browser:
    """One process; `folder` gets its profile. Ended at the end of the `with` block."""

    def __init__(self, folder: Path, width: int = 1240, height: int = 900) -> None:
        program = chromium()
        if program is None:
            raise BrowserError("there is no chromium: install the Debian package chromium")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [program, *_FLAGS, f"--user-data-dir={folder / 'chromium'}", f"--window-size={width},{height}", "about:blank"]
        # The browser reads descriptor 3 and writes descriptor 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._size = width, height
        self._buffer = b""
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)

    def call(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        """One command of the protocol, and its result. Raises BrowserError."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise BrowserError("the browser has ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def open(self, path: Path, scheme: Literal["light", "dark"] = "light", scripts: bool = True) -> Page:
        """Show a file. scheme: what the user prefers. scripts: whether they run."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        width, height = self._size
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.call("Page.enable")
        page.call("Page.navigate", url=path.resolve().as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass
        return page


class Page:
    """A file that is shown."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """A command of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. Raises BrowserError."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def middle(self, element: str) -> tuple[float, float]:
        """Where the middle of the element is that a JavaScript expression names."""
        box = "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        x, y = self.evaluate(f"{box}(({element}).getBoundingClientRect())")
        return x, y

    def click(self, x: float, y: float) -> None:
        """Press and release the left button."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def move(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, whole: bool = False) -> Image.Image:
        """What is seen; whole: with what is below the window's edge."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def pixel(self, x: float, y: float) -> Colour:
        """The colour at a place."""
        found = self.screenshot().getpixel((int(x), int(y)))
        assert isinstance(found, tuple)
        red, green, blue = (int(part) for part in found)
        return red, green, blue


def colour(text: str) -> Colour:
    """ "#ff8000" as (255, 128, 0)."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def alike(one: Colour, other: Colour, tolerance: int = 3) -> bool:
    """Whether two colours are the same, but for rounding."""
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


__all__ = ["Browser", "BrowserError", "Colour", "Page", "alike", "chromium", "colour"]
