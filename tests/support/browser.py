"""A real headless Chromium, driven over its own debugging protocol through two pipes.

No driver, no port, no further package: messages are JSON texts that end with a NUL, written
to the browser's descriptor 3 and read from its descriptor 4. Everything that the browser
says (console, requests, refusals) is kept in ``Page.events`` for a test to look at.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.stack import clean_environ
from support.tied import die_with_parent

DEADLINE = 60.0
PROGRAM = "chromium"
# A root user's Chromium runs only without its sandbox; the pages here are our own.
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    *(("--no-sandbox",) if os.geteuid() == 0 else ()),
)
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 13); os.dup2(int(sys.argv[2]), 14); "
    "os.dup2(13, 3); os.dup2(14, 4); os.close(13); os.close(14); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One browser process and its two pipes."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process = process
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask the browser for something and return its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._to, rest) :]
        wanted = self._number
        deadline = time.monotonic() + DEADLINE
        while True:
            answer = self._next(deadline)
            assert answer is not None, f"no answer to {method}"
            if answer.get("id") == wanted:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def drain(self, seconds: float) -> None:
        """Take in what the browser says for so long."""
        deadline = time.monotonic() + seconds
        while self._next(deadline) is not None:
            pass

    def _next(self, deadline: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._back], [], [], left)[0]:
                return None
            block = os.read(self._back, 1 << 20)
            assert block, f"the browser ended with {self._process.poll()}"
            self._buffer += block
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        page = self._pages.get(message.get("sessionId", ""))
        if page and "method" in message:
            page.events.append(message)
        return message

    def open(self, *, width: int, height: int = 900, dark: bool = False) -> Page:
        """Return an empty page of this size whose every event is kept."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits", "Accessibility"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = "dark" if dark else "light"
        page.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        return page


class Page:
    """One tab. ``events`` is everything that it said."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def visit(self, path: Path) -> Page:
        """Load a file and wait until it is drawn."""
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + DEADLINE
        while not self.named("Page.loadEventFired"):
            assert time.monotonic() < deadline, "the page did not load"
            self._browser.drain(0.05)
        self.settle()
        return self

    def settle(self) -> None:
        """Wait for two frames, so that what was asked for is drawn and told."""
        self.run(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
            ".then(() => 1)"
        )
        self._browser.drain(0.1)

    def run(self, expression: str) -> Any:
        """Return the value of an expression; the page's own policy does not bind it."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and let go a named key, such as ``Tab`` or ``Enter``."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27}
        text = {"Enter": "\r", " ": " "}.get(key)
        known = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": codes[key],
            "modifiers": 8 if shift else 0,
        }
        down = {**known, "text": text} if text else known
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def write(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click in the middle of an element, scrolled to."""
        x, y = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] "
            f"}})(document.querySelector({json.dumps(selector)}))"
        )
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def named(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of every event of this name so far."""
        return [each["params"] for each in self.events if each["method"] == method]

    def screenshot(self, path: Path) -> None:
        # A picture has a greatest height; of a very long page its start is enough.
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12_000)}
        shot = self.call(
            "Page.captureScreenshot",
            format="png",
            captureBeyondViewport=True,
            clip={**clip, "scale": 1},
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> bytes:
        """Print as a person would, on the page's own paper."""
        done = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        data = base64.b64decode(done["data"])
        path.write_bytes(data)
        return data


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    program = shutil.which(PROGRAM)
    assert program
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _ON_3_AND_4, str(theirs_in), str(theirs_out)),
                *(program, *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**clean_environ(), "HOME": profile},
            preexec_fn=die_with_parent,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            browser = Browser(process, ours_out, ours_in)
            yield browser
            browser.call("Browser.close")
            process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
            os.close(ours_out)
            os.close(ours_in)
