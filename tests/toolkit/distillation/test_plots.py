"""Plots of a distillation: one element for each thing that is shown, text escaped, axes as the values allow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from toolkit.distillation import plots
from toolkit.distillation.attention_maps import AttentionMap

HISTORY = [
    {"step": 1.0, "hidden": 2.0, "attention": 0.5},
    {"step": 2.0, "selection": 0.8},
    {"step": 3.0, "hidden": 0.02},
]


@pytest.fixture
def axes_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draw a plot on axes and return them in place of the SVG."""
    from matplotlib.figure import Figure

    def svg(name: str, draw: Any, *, height: float) -> Any:
        axes = Figure().add_subplot()
        draw(axes)
        return axes

    monkeypatch.setattr(plots, "svg", svg)
    return plots


def test_each_loss_is_a_line_over_its_own_steps(axes_of: Any) -> None:
    axes = axes_of.losses("intermediate", HISTORY)
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {"hidden": ([1.0, 3.0], [2.0, 0.02]), "attention": ([1.0], [0.5])}
    assert axes.get_yscale() == "log"


def test_a_loss_of_zero_makes_the_axis_linear(axes_of: Any) -> None:
    assert axes_of.losses("prediction", [{"step": 1.0, "prediction": 0.0}]).get_yscale() == "linear"


def test_the_metric_of_the_rows_that_choose_is_a_line_over_its_steps(axes_of: Any) -> None:
    axes = axes_of.selection_metric("prediction", HISTORY, "accuracy")
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == [([2.0], [0.8])]
    assert axes.get_ylabel() == "accuracy"


def test_the_layer_map_joins_each_student_layer_to_its_teacher_layer(axes_of: Any) -> None:
    axes = axes_of.layer_map((2, 4), 4)
    joints = [tuple(line.get_xdata()) for line in axes.lines]
    assert joints == [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]
    assert [text.get_text() for text in axes.texts].count("emb") == 2
    assert len(axes.texts) == 2 + 5 + 3  # names, embeddings and four layers, embeddings and two layers


def test_attention_has_a_square_for_each_weight_that_shows() -> None:
    maps: AttentionMap = {
        "tokens": ["<a>", "b"],
        "layers": [{
            "student_layer": 1, "teacher_layer": 3, "teacher": [[1.0, 0.0], [0.5, 0.5]], "student": [[0.25, 0.75]] * 2,
        }],
    }  # fmt: skip
    svg = plots.attention(maps)
    assert re.findall(r'opacity="([\d.]+)"', svg) == ["1.00", "0.50", "0.50", "0.33", "1.00", "0.33", "1.00"]
    assert "teacher 3</text>" in svg
    assert "student 1</text>" in svg
    assert svg.count("&lt;a&gt;") == 3  # a label for each map's rows, and for the columns
    assert "<a>" not in svg
