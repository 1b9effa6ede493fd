"""The reports, and the page in a real browser."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.browser import BROWSERS_OWN, SCREENSHOTS, Outline, recording_proxy, run_browser
from toolkit.bench.bench import measure
from toolkit.bench.report import plots
from toolkit.bench.report.tables import frontier
from toolkit.bench.report.write import markdown, page, write_report
from toolkit.config import BenchConfig
from toolkit.errors import ToolkitError


@pytest.fixture(scope="module")
def content(
    tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_bert: Callable[..., Any],
    save_model: Callable[..., Path], data_dir: Path,
) -> dict[str, Any]:  # fmt: skip
    """A real report on tiny models, given a score and a name that HTML and Markdown must escape."""
    folder = tmp_path_factory.mktemp("report")
    baseline = save_model(tiny_bert(hidden_size=48), folder / "baseline")
    config = BenchConfig(
        bundles=(str(tiny_student),), baseline=str(baseline), out=str(folder / "out"), batch_sizes=(1,), length=32,
        max_pairs=5, threads=1, size_claim=1.0, speed_claim=1e6, data=str(data_dir), queries=8, grid=(1, 2),
    )  # fmt: skip
    text = json.dumps(measure(config).content).replace(str(tiny_student), "<b>a|b</b>&")
    found: dict[str, Any] = json.loads(text)
    found["models"][1] |= {"score": 0.8125, "fp32_score": 0.8125, "teacher_score": 0.875, "metric": "accuracy"}
    return found


def test_the_page_is_well_formed_accessible_and_escaped(content: dict[str, Any]) -> None:
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
    assert all(one["role"] == "img" and one["aria-label"] for one in figures)
    headers = [attributes for tag, attributes in outline.seen if tag == "th"]
    assert {one["scope"] for one in headers} == {"col", "row"}
    assert re.search(r'<td class="fail">FAIL</td>', html)
    assert re.search(r'<td class="pass">PASS</td>', html)


def test_plots_take_their_colours_from_the_page(content: dict[str, Any]) -> None:
    svg = plots.sizes(content["models"])
    assert "var(--ink)" in svg
    assert "var(--series-2)" in svg
    defined = set(re.findall(r"(--[\w-]+):", page(content)))
    assert set(re.findall(r"var\((--[\w-]+)\)", page(content))) <= defined
    # no colour of matplotlib's own is left that a dark page would swallow
    assert not re.findall(r"(?:fill|stroke): #(?!ffffff)[0-9a-f]{6}", page(content))


def test_markdown_tables_hold_every_verdict_and_speed(content: dict[str, Any]) -> None:
    text = markdown(content)
    for one in content["claims"]:
        assert f"{one['measured']:.2f}x" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(re.sub(r"\\\|", "", row).count("|") == re.sub(r"\\\|", "", row).count(" |") + 1 for row in rows)
    assert "accuracy 0.8125 (92.9% of teacher)" in text
    assert all(one["verdict"] in text for one in content["claims"])


def test_a_busy_machine_is_told_of(content: dict[str, Any]) -> None:
    def texts(share: float | None) -> str:
        changed = content | {"environment": content["environment"] | {"others_share": share}}
        return markdown(changed) + page(changed)

    assert texts(0.4).count("Other programs used 40% of all cores") == 2
    assert "Other programs used" not in texts(0.05) + texts(None)


def test_a_program_that_never_settled_is_told_of(content: dict[str, Any]) -> None:
    changed = copy.deepcopy(content)
    for one in (*changed["comparisons"], *changed["scenarios"]):
        one["steady"] = True
    assert "Still getting faster" not in markdown(changed)
    next(one for one in changed["comparisons"] if one["kind"] == "onnx")["steady"] = False
    assert "warm-up ran out of time: ONNX over PyTorch." in markdown(changed)


def test_the_frontier_is_what_nothing_else_beats() -> None:
    points = [
        {"label": name, "median_ms": ms, "score": score}
        for name, ms, score in (("slow", 9.0, 0.80), ("best", 5.0, 0.90), ("fast", 1.0, 0.70), ("beaten", 2.0, 0.60))
    ]
    assert [one["label"] for one in frontier(points)] == ["fast", "best"]
    assert frontier([]) == []


def test_a_report_replaces_only_a_report(tmp_path: Path, content: dict[str, Any]) -> None:
    out = tmp_path / "deep" / "bench"
    write_report(content, out)
    changed = copy.deepcopy(content)
    changed["created"] = "2000-01-01T00:00:00+00:00"
    write_report(changed, out)
    assert json.loads((out / "report.json").read_text()) == changed
    assert [path.name for path in out.parent.iterdir()] == ["bench"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match="not a bench report"):
        write_report(content, tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolkitError, match="cannot create"):
        write_report(content, tmp_path / "file" / "bench")


def test_a_failure_leaves_the_old_report(tmp_path: Path, content: dict[str, Any]) -> None:
    out = tmp_path / "bench"
    write_report(content, out)
    before = (out / "report.html").read_bytes()
    with pytest.raises(KeyError):
        write_report({key: value for key, value in content.items() if key != "environment"}, out)
    assert (out / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


def test_the_browser_draws_the_plots(tmp_path: Path, content: dict[str, Any], browser: str) -> None:
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


def test_the_page_fetches_nothing(tmp_path: Path, content: dict[str, Any], browser: str) -> None:
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
