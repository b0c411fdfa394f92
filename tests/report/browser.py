"""A real headless Chromium, driven over its debugging pipe: open a page, evaluate, press keys, take pictures.

    with Browser(tmp_path) as browser:
        page = browser.open(path, width=360, dark=True)
        page.value("document.title")
        assert page.complaints == [] and page.requests == [path.as_uri()]

`complaints` are console messages, exceptions and violations of the content security policy; `requests` are all
addresses that the page asked for. No web socket and no other package: the pipe speaks JSON, ended by NUL.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

Json = dict[str, Any]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
SECONDS = 60.0


def find() -> str | None:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """See the top of this file."""

    def __init__(self, folder: Path) -> None:
        program = find()
        assert program is not None
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._next = 0
        self._events: list[Json] = []
        profile = folder / "profile"
        profile.mkdir()
        # Chromium reads descriptor 3 and writes descriptor 4.
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, program, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(10)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._in)
            os.close(self._out)

    def send(self, method: str, session: str | None = None, **params: object) -> Json:
        """One command; returns its result."""
        self._next += 1
        number = self._next
        message: Json = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: Json = answer["result"]
                return result
            self._events.append(answer)

    def _receive(self) -> Json:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: Json = json.loads(message)
        return parsed

    def open(
        self,
        path: Path,
        *,
        fragment: str = "",
        width: int = 1000,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
    ) -> Page:
        """A fresh page, loaded and, with scripts, drawn."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.prefer(dark=dark)
        page.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.send("Page.navigate", url=path.as_uri() + fragment)
        page.wait("document.readyState === 'complete'")
        if scripts:
            page.settle()
        return page

    def events(self, session: str) -> list[Json]:
        """What a page has reported so far."""
        return [event for event in self._events if event.get("sessionId") == session]


@dataclass
class Page:
    """One tab."""

    browser: Browser
    session: str

    def send(self, method: str, **params: object) -> Json:
        """A command to this tab."""
        return self.browser.send(method, self.session, **params)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,  # as a script of the page would fare
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + SECONDS
        while not self.value(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Until all charts are drawn and two frames have passed."""
        plots = "[...document.querySelectorAll('.plot')]"
        self.wait(f"{plots}.every(plot => plot.dataset.drawn)")
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def resize(self, width: int, height: int) -> None:
        """The size of the window, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def prefer(self, *, dark: bool = False, media: str = "") -> None:
        """The colour scheme and the medium (`print`)."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key down and up."""
        common: Json = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    @property
    def complaints(self) -> list[str]:
        """Console messages, exceptions, and reported issues such as violations of the policy."""
        self.value("1")
        found = []
        for event in self.browser.events(self.session):
            method, params = event["method"], event["params"]
            if method == "Runtime.consoleAPICalled":
                found.append(" ".join(str(item.get("value", item.get("description"))) for item in params["args"]))
            elif method == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
            elif method == "Log.entryAdded":
                found.append(str(params["entry"]["text"]))
            elif method == "Audits.issueAdded":
                found.append(str(params["issue"]["code"]))
        return found

    @property
    def dialogs(self) -> int:
        """How many alerts it opened."""
        self.value("1")
        return sum(event["method"] == "Page.javascriptDialogOpening" for event in self.browser.events(self.session))

    @property
    def requests(self) -> list[str]:
        """All addresses that were asked for, without data: ones."""
        self.value("1")
        urls = [
            str(event["params"]["request"]["url"])
            for event in self.browser.events(self.session)
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]
