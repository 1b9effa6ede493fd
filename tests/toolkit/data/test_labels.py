"""Labels of every form: lists of classes in CSV, and class names that look like lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.data.datasets import load_split, resolve_task
from toolkit.data.labels import encode_label, infer_task, read_label
from toolkit.data.readers import Row
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

FILE = "train.csv"


def labelled(*labels: object) -> list[Row]:
    return [Row(line, {"text": "a", "label": label}) for line, label in enumerate(labels, start=2)]


def test_json_lists_in_csv_are_lists_of_classes(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('text,label\na,"[""food"", ""money""]"\nb,[]\nc,"[""food""]"\n')
    task = resolve_task("auto", tmp_path)
    assert (task.kind, task.labels, task.metric) == ("multi_label", ("food", "money"), "f1")
    assert load_split(task, "train", tmp_path).labels.tolist() == [[1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["a", 1]', ["a", 1]), (" [] ", []), (np.array(["x"]), ["x"]), (["x"], ["x"]), ("a", "a"), (3, 3),
        ("['a']", "['a']"), ("[", "["), ('[["a"]]', '[["a"]]'), ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_a_cell_is_a_list_only_where_json_says_so(cell: object, value: object) -> None:
    assert read_label(cell) == value


@pytest.mark.parametrize("name", ["food|sport", "food; sport", "['food', 'sport']", '["food", ["sport"]]', "{food}"])
def test_a_class_name_that_looks_like_a_list_is_a_fault(name: str) -> None:
    with pytest.raises(ToolkitError) as caught:
        infer_task(labelled("food", name, "sport"), "label", FILE)
    assert caught.value.problem.splitlines() == [
        f"{FILE}: 1 problem", f"  - line 3, column 'label': {name!r} looks like a list, expected one class",
    ]  # fmt: skip
    assert '"[""food"", ""sport""]"' in caught.value.fix


def test_a_comma_is_part_of_a_class_unless_its_parts_are_classes() -> None:
    assert infer_task(labelled("Arts, Crafts", "food"), "label", FILE).labels == ("Arts, Crafts", "food")
    with pytest.raises(ToolkitError, match="'food, sport' looks like a list"):
        infer_task(labelled("food", "sport", "food, sport"), "label", FILE)


def test_one_class_among_lists_is_a_fault() -> None:
    task = infer_task(labelled('["food"]', "sport"), "label", FILE)
    assert task.labels == ("food",)
    assert encode_label(task, "sport") == ([0], ("[\"'sport'\"]", "a list out of food"))


def test_a_list_for_a_task_of_single_classes_is_a_fault() -> None:
    number, problem = encode_label(Task("auto", ("food", "sport")), '["food", "sport"]')
    assert (number, problem) == (0, ("['food', 'sport']", "one of food, sport"))


def test_a_column_of_texts_is_no_column_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.data.labels.MAX_CLASSES", 20)
    with pytest.raises(ToolkitError, match="more than 20 distinct labels in column 'label'"):
        infer_task(labelled(*(f"text {i}" for i in range(30))), "label", FILE)
    assert infer_task(labelled(*(i / 7 for i in range(300))), "label", FILE).kind == "regression"
    with pytest.raises(ToolkitError, match="more than 20 distinct labels"):
        infer_task(labelled(*range(60), "x"), "label", FILE)
