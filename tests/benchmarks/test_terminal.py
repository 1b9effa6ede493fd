"""README's terminal: its rows are the lines of the log, and a browser plays it, in both colours or standing still."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.paths import TERMINAL
from benchmarks.terminal import COLUMNS, STEP_SECONDS, terminal
from tests.support.browser import run_browser

SVG = "{http://www.w3.org/2000/svg}"
LINES = ["$ make demo", "== 1/5 teacher", f"<{'word ' * 20}&", "  indented", "done in 2 minutes. Next:"]
MEASURE = """<script>
  const rows = [...document.querySelectorAll(".line")], shown = () => rows.map(row => +getComputedStyle(row).opacity);
  const playing = document.getAnimations().map(animation => (animation.pause(), animation));
  const at = time => (playing.forEach(animation => { animation.currentTime = time }), shown());
  document.title = JSON.stringify({
    start: at(0), middle: at(3000), end: at(60000), playing: playing.length,
    paper: getComputedStyle(document.querySelector(".paper")).fill,
    right: Math.max(...rows.map(row => row.getBoundingClientRect().right)),
    scale: document.querySelector("svg").clientWidth / document.querySelector("svg").viewBox.baseVal.width,
  });
</script>"""


def measured(browser: str, folder: Path, *flags: str) -> dict[str, Any]:
    """What README's picture looks like on a phone of 390 pixels."""
    picture = TERMINAL.read_text(encoding="utf-8")
    page = f'<meta charset=utf-8><body style="margin:0"><div style="width:390px">{picture}</div>{MEASURE}'
    (folder / "page.html").write_text(page, encoding="utf-8")
    dom = run_browser(browser, folder / "profile", *flags, "--dump-dom", (folder / "page.html").as_uri()).stdout
    facts: dict[str, Any] = json.loads(unescape(dom.rpartition("<title>")[2].partition("</title>")[0]))
    return facts


def test_rows_are_the_lines_broken_at_the_width_of_a_terminal() -> None:
    page = ET.fromstring(terminal(LINES))
    rows = [row.text or "" for row in page.iter(f"{SVG}text")]
    assert max(map(len, rows)) <= COLUMNS < len(LINES[2])
    assert " ".join(rows).split() == " ".join(LINES).split()
    assert page.findtext(f"{SVG}desc") == "\n".join(LINES)
    assert page.findtext(f"{SVG}title") == "make demo in a terminal: done in 2 minutes"
    left = {row.text: float(row.attrib["x"]) for row in page.iter(f"{SVG}text")}
    assert left["indented"] > left["== 1/5 teacher"] == left["$ make demo"]
    delays = [float(row.attrib["style"].removeprefix("animation-delay:")[:-1]) for row in page.iter(f"{SVG}text")]
    assert delays == sorted(delays)
    assert round(delays[1] - delays[0], 3) == STEP_SECONDS


def test_a_browser_plays_it_line_by_line(browser: str, tmp_path: Path) -> None:
    source = TERMINAL.read_text(encoding="utf-8")
    assert len(source) < 40_000
    assert "<script" not in source
    facts = measured(browser, tmp_path, "--blink-settings=preferredColorScheme=1")
    assert facts["playing"] == len(facts["start"]) > 15
    assert (sum(facts["start"]), sum(facts["end"])) == (0, facts["playing"])
    half = facts["middle"]
    assert 0 < sum(half) < len(half)
    assert half == sorted(half, reverse=True)
    assert facts["right"] <= 390
    assert 16 * facts["scale"] > 9, "pixels of a letter"
    assert facts["paper"] == "rgb(246, 248, 250)"


def test_it_stands_still_where_less_motion_is_asked_for_and_is_dark_in_the_dark(browser: str, tmp_path: Path) -> None:
    facts = measured(browser, tmp_path, "--force-prefers-reduced-motion", "--blink-settings=preferredColorScheme=0")
    assert (facts["playing"], set(facts["start"])) == (0, {1})
    assert facts["paper"] == "rgb(21, 27, 35)"
