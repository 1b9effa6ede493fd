"""The site as `make docs` builds it: no broken link, nothing from another host, every page fits a phone and a desk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browser import BROWSERS_OWN, recording_proxy, run_browser
from tests.support.paths import ROOT
from website.commands import commands
from website.python_api import public_names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        entries = {name: value or "" for name, value in attributes}
        self.anchors |= {entries[name] for name in ("id", "name") if name in entries}
        if tag == "a" and "href" in entries:
            self.links.append(entries["href"])
        elif tag == "link" and entries.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(entries.get("href", ""))
        elif "src" in entries:
            self.loads.append(entries["src"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def broken(pages: dict[Path, Page]) -> list[str]:
    """Links and loads of pages that lead to no file, or to no place in it."""
    problems = []
    for path, page in pages.items():
        for link in (link for link in [*page.links, *page.loads] if not urlsplit(link).scheme):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = target in pages and (not parts.fragment or unquote(parts.fragment) in pages[target].anchors)
            if not (known or (target.suffix != ".html" and target.is_file())):
                problems.append(f"{path.name}: {link}")
    return problems


def test_no_link_is_broken(pages: dict[Path, Page], tmp_path: Path) -> None:
    assert len(pages) > 25
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken(pages) == []
    control = tmp_path / "control.html"
    control.write_text('<a href="gone.html"></a><a href="#gone"></a><a href="#here" id="here"></a><img src="gone.png">')
    assert broken({control: Page(control)}) == [f"control.html: {link}" for link in ("gone.html", "#gone", "gone.png")]


def test_pages_load_nothing_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    loads = [load for page in pages.values() for load in page.loads]
    assert loads
    assert [load for load in loads if urlsplit(load).scheme not in ("", "data")] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert [url for url in re.findall(r"url\(\s*['\"]?([^)'\"]+)", styles) if url.startswith(("http", "//"))] == []


def test_the_reference_is_whole(site: Path, pages: dict[Path, Page]) -> None:
    for name in commands():
        assert f"toolkit {name}" in (site / "reference" / "commands" / f"{name}.html").read_text(encoding="utf-8")
    assert set(public_names()) <= pages[site / "reference" / "python.html"].anchors
    assert {"bundlejson", "gates", "calibrationjson"} <= pages[site / "reference" / "bundle.html"].anchors
    assert "properties" in json.loads((site / "bundle.schema.json").read_text(encoding="utf-8"))
    support = (site / "support.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in support for name in ("torch", "onnxruntime", "fastapi", "openvino"))


def test_llms_txt_lists_every_page_and_its_full_text(site: Path, pages: dict[Path, Page]) -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(site).as_posix() for path in pages)
    assert listed[:2] == ["index.html", "how-it-works.html"]
    text = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert "# Start here" in text
    assert "| `--max-drop POINTS` |" in text


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


# opens every page in a frame of each width, one after another
DRIVER = """<!doctype html><title>busy</title><script>
const open = (path, width) => new Promise(resolve => {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = path;
  frame.onload = () => setTimeout(() => {
    const page = frame.contentDocument;
    const lost = [...page.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src);
    resolve([path, width, page.documentElement.scrollWidth, page.querySelector("h1")?.innerText ?? "", lost]);
    frame.remove();
  }, 100);
  document.body.append(frame);
});
onload = async () => {
  const rows = [];
  for (const path of PATHS) for (const width of [390, 1280]) rows.push(await open(path, width));
  document.title = JSON.stringify(rows);
};
</script><body></body>"""


@pytest.mark.slow
def test_every_page_fits_a_phone_and_a_desk_and_no_request_leaves(
    site: Path, pages: dict[Path, Page], address: str, browser: str, tmp_path: Path
) -> None:
    paths = [path.relative_to(site).as_posix() for path in pages]
    (site / "control.html").write_text(
        '<!doctype html><h1>x</h1><div style="width: 700px">wide</div><img src="http://fetched.test/x.png">'
    )
    (site / "driver.html").write_text(DRIVER.replace("PATHS", json.dumps([*paths, "control.html"])))
    with recording_proxy() as (port, asked):
        flags = [f"--proxy-server=http://127.0.0.1:{port}", "--virtual-time-budget=600000", "--window-size=1400,1000"]
        dom = run_browser(browser, tmp_path, *flags, "--dump-dom", f"{address}/driver.html", timeout=500).stdout
        left = [line for line in asked if not any(host in line for host in BROWSERS_OWN)]
    rows = json.loads(unescape(dom.partition("<title>")[2].partition("</title>")[0]))
    assert len(rows) == 2 * (len(paths) + 1)
    assert all(heading for _, _, _, heading, _ in rows)
    assert {(path, width) for path, width, scrolled, _, _ in rows if scrolled > width} == {("control.html", 390)}
    assert [row for row in rows if row[-1] and row[0] != "control.html"] == []
    assert left
    assert {line.split()[1] for line in left} == {"http://fetched.test/x.png"}
