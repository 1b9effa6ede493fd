"""The files of a report, and the page in a real browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.browser import BROWSERS_OWN, SCREENSHOTS, Outline, phone_and_desk, recording_proxy, run_browser
from toolkit.benchmarking.report.read import read_report
from toolkit.benchmarking.report.write import markdown, page, report_json, write_report
from toolkit.benchmarking.results import Kind, Report
from toolkit.errors import ToolkitError


def test_the_page_is_well_formed_accessible_and_escaped(content: Report) -> None:
    html = page(content)
    outline = Outline()
    outline.feed(html)
    assert not outline.open
    assert "<b>a|b</b>" not in html
    assert "&lt;b&gt;a|b&lt;/b&gt;&amp;" in html
    ids = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0
    figures = [attributes for tag, attributes in outline.seen if tag == "figure"]
    assert len(figures) == 6
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    headers = [attributes for tag, attributes in outline.seen if tag == "th"]
    assert {header["scope"] for header in headers} == {"col", "row"}
    assert re.search(r'class="fail">FAIL</td>', html)
    assert re.search(r'class="pass">PASS</td>', html)


def test_markdown_tables_hold_every_verdict_and_speed(content: Report) -> None:
    text = markdown(content)
    for claim in content.claims:
        assert f"{claim.measured:.2f}x" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(re.sub(r"\\\|", "", row).count("|") == re.sub(r"\\\|", "", row).count(" |") + 1 for row in rows)
    assert "accuracy 81.25 % (92.9 % of teacher)" in text
    assert all(claim.verdict in text for claim in content.claims)


def test_a_busy_machine_is_told_of(content: Report) -> None:
    def texts(share: float | None) -> str:
        changed = replace(content, environment={**content.environment, "others_share": share})
        return markdown(changed) + page(changed)

    assert texts(0.4).count("Other programs used 40 % of all cores") == 2
    assert "Other programs used" not in texts(0.05) + texts(None)


def test_a_program_that_never_settled_is_told_of(content: Report) -> None:
    steady = replace(
        content, comparisons=[replace(comparison, steady=True) for comparison in content.comparisons],
        scenarios=[replace(scenario, steady=True) for scenario in content.scenarios],  # type: ignore[call-arg]
    )  # fmt: skip
    assert "Still getting faster" not in markdown(steady)
    comparisons = [replace(entry, steady=entry.kind != Kind.ONNX) for entry in steady.comparisons]
    assert "warm-up ran out of time: ONNX over PyTorch." in markdown(replace(steady, comparisons=comparisons))


def test_entries_that_a_comparison_lacks_are_left_out(content: Report) -> None:
    keys = {entry["kind"]: set(entry) for entry in report_json(content)["comparisons"]}
    assert keys[Kind.BATCHING] - keys[Kind.ONNX] == {"rows", "source", "median_tokens"}
    assert "replicated" not in keys[Kind.DISTILLATION]
    assert "claim" in keys[Kind.ONNX]


def test_a_report_replaces_only_a_report(tmp_path: Path, content: Report) -> None:
    out = tmp_path / "deep" / "bench"
    write_report(content, out)
    changed = replace(content, created="2000-01-01T00:00:00+00:00")
    write_report(changed, out)
    assert read_report(out) == changed
    assert [path.name for path in out.parent.iterdir()] == ["bench"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match="not a bench report"):
        write_report(content, tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolkitError, match="cannot create"):
        write_report(content, tmp_path / "file" / "bench")


def test_a_failure_leaves_the_old_report(tmp_path: Path, content: Report) -> None:
    out = tmp_path / "bench"
    write_report(content, out)
    before = (out / "report.html").read_bytes()
    with pytest.raises(KeyError):
        write_report(replace(content, environment={}), out)
    assert (out / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


def test_the_browser_draws_the_plots(tmp_path: Path, content: Report, browser: str) -> None:
    from matplotlib.image import imread

    (tmp_path / "report.html").write_text(page(content))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    url, shot = (tmp_path / "report.html").as_uri(), SCREENSHOTS / "report.png"
    shot.unlink(missing_ok=True)
    run_browser(browser, tmp_path / "profile", "--window-size=1100,5200", f"--screenshot={shot}", url)
    pixels = imread(shot)[:, :, :3]
    # as the light page sets them: the baseline, the bundle, and two more parts of its weights
    for series in ("#667080", "#0b63ce", "#b5470f", "#0a7d5a"):
        colour = np.array([int(series[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels - colour).max(axis=2) < 0.02).sum() > 1000


def test_the_page_fetches_nothing(tmp_path: Path, content: Report, browser: str) -> None:
    """Every request of the browser goes to a proxy that notes it; a page that does fetch proves that it would."""
    (tmp_path / "report.html").write_text(page(content))
    (tmp_path / "control.html").write_text('<img src="http://fetched.test/pixel.png">')
    with recording_proxy() as (port, asked):
        proxy = f"--proxy-server=http://127.0.0.1:{port}"
        dom = run_browser(browser, tmp_path / "a", proxy, "--dump-dom", (tmp_path / "report.html").as_uri()).stdout
        by_report = [line for line in asked if not any(host in line for host in BROWSERS_OWN)]
        run_browser(browser, tmp_path / "b", proxy, "--dump-dom", (tmp_path / "control.html").as_uri())
        by_control = [line for line in asked if "fetched.test" in line]
    assert by_report == []
    assert by_control
    assert dom.count("<svg") == 6
    assert dom.count("<table") == 7


def test_the_page_fits_a_phone_and_its_charts_can_be_read_there(tmp_path: Path, content: Report, browser: str) -> None:
    """Measured in frames of both widths: nothing is cut, charts fill what is there, and their text is 9 pixels high."""
    phone, desk = phone_and_desk(browser, tmp_path, page(content))
    assert (phone.page_width, desk.page_width) == (390, 1280)
    assert min(phone.text_height, desk.text_height) >= 9
    assert (phone.table_overflow, desk.table_overflow) == (0, 0)
    assert phone.chart_width >= 350
