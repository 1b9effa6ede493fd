"""A headless Chromium for the tests of pages."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
BROWSERS_OWN = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
SCREENSHOTS = Path(__file__).parent.parent / "build" / "screenshots"  # kept, to be looked at


def find_browser() -> str:
    """Its path; skips the test where NO_BROWSER is set, fails where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        return found
    if os.environ.get("NO_BROWSER"):
        pytest.skip("NO_BROWSER is set")
    pytest.fail("no Chromium: apt-get install chromium, or set CHROMIUM=/path, or NO_BROWSER=1 to do without")


def run_browser(browser: str, profile: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with a profile of its own."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)


@dataclass(frozen=True)
class Layout:
    """Sizes of a page of charts and tables, in pixels: its width, its charts' smallest text, what its tables hide."""

    page_width: float
    text_height: float
    table_overflow: float
    chart_width: float


def phone_and_desk(browser: str, folder: Path, page: str) -> list[Layout]:
    """Lay a page out in frames of 390 and 1,280 pixels and measure it there."""
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{escape(page)}"></iframe>' for width in (390, 1280))
    script = """<script>
    const measure = page => {
      const texts = [...page.querySelectorAll("svg text")], tables = [...page.querySelectorAll(".scroll")];
      const size = (text, svg) =>
        parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width;
      return [
        page.documentElement.scrollWidth, Math.min(...texts.map(text => size(text, text.ownerSVGElement))),
        Math.max(...tables.map(table => table.scrollWidth - table.clientWidth)),
        page.querySelector("figure svg").clientWidth,
      ];
    };
    onload = () => {
      const frames = [...document.querySelectorAll("iframe")];
      document.title = JSON.stringify(frames.map(frame => measure(frame.contentDocument)));
    };</script>"""
    (folder / "frames.html").write_text(f"<meta charset=utf-8>{frames}{script}", encoding="utf-8")
    dom = run_browser(browser, folder / "profile", "--dump-dom", (folder / "frames.html").as_uri()).stdout
    return [Layout(*sizes) for sizes in json.loads(unescape(dom.partition("<title>")[2].partition("</title>")[0]))]


@contextmanager
def recording_proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that refuses everything and keeps the first line of each request."""
    asked: list[str] = []

    class Refuse(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline(4096).decode("latin-1").strip())
            self.wfile.write(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


class Outline(HTMLParser):
    """Tags as they open and close, to see that a page is well formed."""

    VOID = ("meta", "link", "br", "img", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
