"""The frontier as data and as a page."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from tests.support.browser import BROWSERS_OWN, phone_and_desk, recording_proxy, run_browser
from tests.toolkit.compression.test_search import plan
from toolkit.cli.main import app
from toolkit.compression.budget import Budget
from toolkit.compression.frontier import HTML, JSON, Point, command_of, read_frontier, write_frontier
from toolkit.config import DistillConfig, ExportConfig

TEACHER = Point("6/384/1536/12", "teacher", "", 82.0, 9.0, 90.0, "", 81.0)
POINTS = [
    TEACHER,
    Point("4/96/384/12", "chosen", "whole", 79.0, 0.4, 3.6, "toolkit distill a && toolkit export b", 78.5),
    Point("2/144/576/12", "trial", "1 + 1 epochs", 76.0, 0.2, 5.1, "toolkit distill --out 'a <b>'"),
    Point("3/96/384/12", "start", "0 + 0 epochs", 75.0, 0.3, 3.5, "toolkit distill --out c"),
]


def test_a_command_makes_the_same_options_again() -> None:
    config = DistillConfig(
        "my teacher", "auto", "o", data="d", student="2/48/192/12", temperature=2.5, match_labels=True, overwrite=True,
        intermediate_epochs=0,
    )  # fmt: skip
    words = shlex.split(command_of("distill", config))
    printed = CliRunner().invoke(app, [*words[1:], "--print-config"])
    assert printed.exit_code == 0, printed.output
    lines = set(printed.output.splitlines())
    for line in ('teacher = "my teacher"', "temperature = 2.5", "match-labels = true", "intermediate-epochs = 0"):
        assert line in lines
    trimmed = ExportConfig("s", "o", trim_vocabulary=("a.txt", "my b.txt"), max_pieces=900)
    assert command_of("export", trimmed) == (
        "toolkit export s --out o --trim-vocabulary a.txt --trim-vocabulary 'my b.txt' --max-pieces 900"
    )
    assert command_of("export", ExportConfig("s", "o", max_drop=3.0)) == "toolkit export s --out o --max-drop 3"


def test_a_frontier_has_every_point_and_marks_the_answer_on_a_page_that_stands_alone(tmp_path: Path) -> None:
    write_frontier(tmp_path, POINTS, replace(plan(), budget=Budget(0.5, None, 3.0)), "accuracy", "toolkit compress t")
    content, page = json.loads((tmp_path / JSON).read_text()), (tmp_path / HTML).read_text()
    assert [point["role"] for point in content["points"]] == ["trial", "start", "chosen", "teacher"]
    assert content["budget"] == {"latency_ms": 0.5, "size_mb": None, "drop": 3.0}
    assert "<h1>4/96/384/12 is the answer</h1>" in page
    for text in ("0.4 ms", "a text; the teacher 9 ms", "78.50", "on test; the teacher 81.00", "toolkit export b"):
        assert text in page
    assert "--out &#39;a &lt;b&gt;&#39;" in page, "commands are text"
    fetched = r"""<(?:script|img|iframe|object)\b|\bsrc=|@import|href="(?!\#|data:)|url\((?!\#)"""
    assert re.findall(fetched, page) == []
    assert re.findall(fetched, '<img src="http://fetched.test/pixel.png">')
    assert page.count("<svg") == 2


def test_how_word_embeddings_are_stored_is_shown_where_any_are_stored_in_less(tmp_path: Path) -> None:
    for words, shown in (("2 bits, 17,769 pieces", True), ("8 bits", False)):
        points = [TEACHER, replace(POINTS[1], words=words), replace(POINTS[2], words="8 bits")]
        write_frontier(tmp_path, points, plan(), "accuracy", "toolkit compress t")
        page = (tmp_path / HTML).read_text()
        assert ("word embeddings" in page) == (words in page) == shown
        assert read_frontier(tmp_path)[1][1].words == words


def test_the_browser_draws_it_for_phone_and_desk_and_fetches_nothing(tmp_path: Path, browser: str) -> None:
    write_frontier(tmp_path, POINTS, replace(plan(), budget=Budget(0.5, 6.0, 3.0)), "accuracy", "toolkit compress t")
    page = (tmp_path / HTML).read_text()
    phone, desk = phone_and_desk(browser, tmp_path, page)
    assert (phone.page_width, desk.page_width) == (390, 1280)
    assert min(phone.text_height, desk.text_height) >= 9
    with recording_proxy() as (port, asked):
        shot = f"--screenshot={tmp_path / 'shot.png'}"
        run_browser(
            browser, tmp_path / "a", f"--proxy-server=http://127.0.0.1:{port}", shot, (tmp_path / HTML).as_uri()
        )
        assert [line for line in asked if not any(host in line for host in BROWSERS_OWN)] == []


def test_a_frontier_without_an_answer_says_so(tmp_path: Path) -> None:
    write_frontier(tmp_path, [TEACHER, *POINTS[2:]], plan(), "accuracy", "toolkit compress t")
    assert "<h1>Nothing is within the budget</h1>" in (tmp_path / HTML).read_text()
