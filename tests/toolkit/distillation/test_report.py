"""A student's report: what it says is what happened, and the page stands alone in a real browser."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.browser import BROWSERS_OWN, SCREENSHOTS, Outline, recording_proxy, run_browser
from toolkit.bundle.format import open_bundle
from toolkit.distillation.report import PhaseTimer, page


def test_the_record_is_the_bundles_own(run_bundle: Path, report: dict[str, Any]) -> None:
    manifest = open_bundle(run_bundle).manifest  # the report is a file of the bundle: its hash is checked here
    assert {"report.json", "report.html"} <= set(manifest["files"])
    for name in ("metrics", "teacher_metrics", "start_metrics", "stages", "layer_map", "config", "data", "seed"):
        assert report[name] == manifest[name]
    assert (report["student"]["shape"], report["teacher"]["shape"]) == ("2/16/32/4", "3/24/48/4")
    assert {"starting the student", "stage a, intermediate", "stage b, prediction"} <= set(report["phases"])
    assert report["phases"]["stage a, intermediate"] >= manifest["stages"]["intermediate"]["seconds"] - 0.2


def test_the_share_of_texts_that_are_cut_stands_on_the_page(report: dict[str, Any]) -> None:
    assert report["truncation"]["dev"] == {
        "texts": 96, "cut_texts": 0, "tokens": report["truncation"]["dev"]["tokens"], "cut_tokens": 0, "max_length": 64
    }  # fmt: skip
    changed = copy.deepcopy(report)
    changed["truncation"]["dev"] |= {"cut_texts": 12, "tokens": 1000, "cut_tokens": 33}
    html = page(changed)
    assert "Texts that are cut" in html
    assert "12.5 %" in html
    assert "3.3 %" in html


def test_the_page_is_well_formed_accessible_and_escaped(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    changed["config"]["teacher"] = "<b>a|b</b>&"
    changed["attention"][0]["tokens"][1] = "<i>"
    html = page(changed)
    outline = Outline()
    outline.feed(html)
    assert not outline.open
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;a|b&lt;/b&gt;&amp;" in html
    ids = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0
    figures = [attributes for tag, attributes in outline.seen if tag == "figure"]
    assert len(figures) == 2 + 1 + 1 + 3  # losses of two stages, dev metric, layer map, attention
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)


def test_every_figure_of_the_metrics_is_on_the_page(report: dict[str, Any]) -> None:
    html = page(report)
    for name in ("teacher_metrics", "start_metrics", "metrics"):
        assert f"{100 * report[name]['accuracy']:.2f}" in html
    retention = report["metrics"]["accuracy"] / report["teacher_metrics"]["accuracy"]
    assert f"{100 * retention:.1f} % of the teacher kept" in html
    for loss in ("attention", "hidden", "embedding", "prediction"):
        assert f'<th scope="row">{loss}</th>' in html


def test_phases_add_up_and_count_what_failed() -> None:
    phases = PhaseTimer()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), phases("one"):
            raise ValueError("x")
    assert list(phases.seconds) == ["one"]
    assert phases.seconds["one"] > 0


def test_the_browser_draws_it_and_fetches_nothing(tmp_path: Path, report: dict[str, Any], browser: str) -> None:
    from matplotlib.image import imread

    (tmp_path / "report.html").write_text(page(report))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shot = SCREENSHOTS / "distill-report.png"
    with recording_proxy() as (port, asked):
        run_browser(
            browser, tmp_path / "a", f"--proxy-server=http://127.0.0.1:{port}", "--window-size=1100,4200",
            f"--screenshot={shot}", (tmp_path / "report.html").as_uri(),
        )  # fmt: skip
        assert [line for line in asked if not any(host in line for host in BROWSERS_OWN)] == []
    pixels = imread(shot)[:, :, :3]
    for series in ("#b5470f", "#0b63ce"):  # the teacher's and the student's, as the light page sets them
        colour = np.array([int(series[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(pixels - colour).max(axis=2) < 0.02).sum() > 1000
