"""A student's report: what it says is what happened, and the page stands alone in a real browser."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tests.support.browser import BROWSERS_OWN, SCREENSHOTS, Outline, recording_proxy, run_browser
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill
from toolkit.distillation.report import PhaseTimer, page


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., Any], save_model: Callable[..., Path],
    data_dir: Path,
) -> Path:  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_model(tiny_bert(), folder / "teacher")
    run_distill(DistillConfig(
        str(folder / "teacher"), "auto", str(folder / "student"), data=str(data_dir), student="2/16/32/4",
        intermediate_epochs=3, prediction_epochs=2, allow_weak_teacher=True,
    ))  # fmt: skip
    return folder / "student"


@pytest.fixture
def content(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "report.json").read_text())  # type: ignore[no-any-return]


def test_the_record_is_the_bundles_own(bundle: Path, content: dict[str, Any]) -> None:
    manifest = open_bundle(bundle).manifest  # the report is a file of the bundle: its hash is checked here
    assert {"report.json", "report.html"} <= set(manifest["files"])
    for name in ("metrics", "teacher_metrics", "start_metrics", "stages", "layer_map", "config", "data", "seed"):
        assert content[name] == manifest[name]
    assert (content["student"]["shape"], content["teacher"]["shape"]) == ("2/16/32/4", "3/24/48/4")
    assert {"starting the student", "stage a, intermediate", "stage b, prediction"} <= set(content["phases"])
    assert content["phases"]["stage a, intermediate"] >= manifest["stages"]["intermediate"]["seconds"] - 0.2


def test_attention_maps_are_the_models_own(bundle: Path, content: dict[str, Any], tokenizer: Any) -> None:
    models = {
        "student": AutoModel.from_pretrained(bundle, attn_implementation="eager").eval(),
        "teacher": AutoModel.from_pretrained(content["config"]["teacher"], attn_implementation="eager").eval(),
    }
    assert len(content["attention"]) == 3
    for shown in content["attention"]:
        ids = torch.tensor([[tokenizer.token_to_id(token) for token in shown["tokens"]]])
        assert [(one["student_layer"], one["teacher_layer"]) for one in shown["layers"]] == [(1, 2), (2, 3)]
        for name, model in models.items():
            with torch.no_grad():
                layers = model(ids, output_attentions=True).attentions
            for one in shown["layers"]:
                expected = layers[one[f"{name}_layer"] - 1][0].mean(0).numpy()
                np.testing.assert_allclose(one[name], expected, atol=2e-4)


def test_the_page_is_well_formed_accessible_and_escaped(content: dict[str, Any]) -> None:
    changed = copy.deepcopy(content)
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
    assert all(one["role"] == "img" and one["aria-label"] for one in figures)


def test_every_figure_of_the_metrics_is_on_the_page(content: dict[str, Any]) -> None:
    html = page(content)
    for name in ("teacher_metrics", "start_metrics", "metrics"):
        assert f"{100 * content[name]['accuracy']:.2f}" in html
    kept = content["metrics"]["accuracy"] / content["teacher_metrics"]["accuracy"]
    assert f"{kept:.1%} of the teacher kept" in html
    for loss in ("attention", "hidden", "embedding", "prediction"):
        assert f'<th scope="row">{loss}</th>' in html


def test_phases_add_up_and_count_what_failed() -> None:
    phases = PhaseTimer()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), phases("one"):
            raise ValueError("x")
    assert list(phases.seconds) == ["one"]
    assert phases.seconds["one"] > 0


def test_the_browser_draws_it_and_fetches_nothing(tmp_path: Path, content: dict[str, Any], browser: str) -> None:
    from matplotlib.image import imread

    (tmp_path / "report.html").write_text(page(content))
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
