"""Columns by name: the user's, the official ones, the likeliest; guesses are said, and what is missing is named."""

from __future__ import annotations

import pytest

from toolkit.data.columns import Columns, DataOptions, choose_columns, guesses
from toolkit.errors import ToolkitError


@pytest.mark.parametrize(
    ("present", "options", "columns"),
    [
        (["text", "label"], {}, ("text", None, "label")),
        (["id", "Sentence", "CATEGORY"], {}, ("Sentence", None, "CATEGORY")),
        (["category", "text", "label"], {}, ("text", None, "label")),
        (["premise", "hypothesis", "label"], {}, ("premise", "hypothesis", "label")),
        (["text", "text_pair", "label"], {}, ("text", "text_pair", "label")),
        (["text", "text_pair", "label"], {"text_column": "text"}, ("text", None, "label")),
        (["a", "b", "c"], {"text_column": "b", "label_column": "a"}, ("b", None, "a")),
        (["a", "b", "label"], {"text_column": "b", "pair_column": "a"}, ("b", "a", "label")),
        (["Text", "text", "label"], {}, ("text", None, "label")),
    ],
)
def test_columns_of_a_task_that_is_not_known_yet(
    present: list[str], options: dict[str, str], columns: tuple[str, str | None, str]
) -> None:
    assert choose_columns("train.csv", present, pairs=None, options=DataOptions(**options)) == columns  # type: ignore[arg-type]


def test_official_columns_come_first_and_a_task_of_single_texts_reads_no_pairs() -> None:
    present = ["text", "label", "#1 String", "#2 String", "Quality"]
    official = Columns("#1 String", "#2 String", "Quality")
    assert choose_columns("dev.tsv", present, pairs=True, options=DataOptions(), official=official) == official
    single = ["sentence1", "sentence2", "label"]
    assert choose_columns("a", single, pairs=False, options=DataOptions()) == ("sentence1", None, "label")


def test_guesses_are_said_with_the_options_that_change_them() -> None:
    columns = Columns("Sentence", None, "label")
    assert guesses("train.csv", columns, DataOptions()) == [
        "train.csv: text in the column 'Sentence' (else: --text-column)"
    ]
    assert guesses("train.csv", columns, DataOptions(text_column="Sentence")) == []
    assert guesses("train.csv", Columns("text", "text_pair", "label"), DataOptions()) == []


@pytest.mark.parametrize(
    ("options", "problem", "fix"),
    [
        (
            {"text_column": "label"},
            "text and label are both the column 'label'",
            "--text-column NAME or --label-column",
        ),
        (
            {"pair_column": "label"},
            "pair and label are both the column 'label'",
            "--pair-column NAME or --label-column",
        ),
        ({"pair_column": "text"}, "text and pair are both the column 'text'", "--text-column NAME or --pair-column"),
    ],
)
def test_a_column_has_one_role(options: dict[str, str], problem: str, fix: str) -> None:
    """Else the label would be read as a text, and every score be perfect."""
    with pytest.raises(ToolkitError) as caught:
        choose_columns("train.csv", ["text", "label"], pairs=None, options=DataOptions(**options))  # type: ignore[arg-type]
    assert caught.value.problem == f"train.csv: {problem}; it has 'text', 'label'"
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize(
    ("options", "missing", "fix"),
    [
        (DataOptions(), "'text', 'label'", "--text-column NAME and --label-column NAME"),
        (DataOptions(text_column="a", label_column="z"), "'z'", "--label-column NAME"),
    ],
)
def test_missing_columns_are_named_with_those_that_are_there(options: DataOptions, missing: str, fix: str) -> None:
    with pytest.raises(ToolkitError) as caught:
        choose_columns("train.csv", ["a", "b"], pairs=None, options=options)
    assert caught.value.problem == f"train.csv has no column {missing}; it has 'a', 'b'"
    assert caught.value.fix == fix


def test_a_pair_column_is_refused_where_the_task_has_no_pairs() -> None:
    with pytest.raises(ToolkitError, match="--pair-column b: the task is about single texts"):
        choose_columns("a.csv", ["text", "b", "label"], pairs=False, options=DataOptions(pair_column="b"))
