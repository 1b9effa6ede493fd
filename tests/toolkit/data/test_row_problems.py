"""Problems that are alike stand on one line, however many rows have them."""

from __future__ import annotations

import pytest

from toolkit.data.row_problems import RowProblem, RowProblems
from toolkit.errors import ToolkitError


def label(line: int, value: str) -> RowProblem:
    return RowProblem(line, "column 'label'", value, "one of a, b")


def test_alike_problems_are_one_line() -> None:
    problems = RowProblems("train.csv")
    good = [problems.is_good([label(line, repr(line % 7))] if line % 2 else []) for line in range(2, 202)]
    assert good == [line % 2 == 0 for line in range(2, 202)]
    problems.is_good([RowProblem(300, "column 'text'", "''", "text"), RowProblem(300, "", "1 more cells")])
    with pytest.raises(ToolkitError) as caught:
        problems.settle()
    assert caught.value.problem.splitlines() == [
        "train.csv: 102 problems",
        "  - lines 3, 5, 7, 9, 11 and 95 more, column 'label': 3, 5, 0, 2, 4 and others, expected one of a, b",
        "  - line 300, column 'text': '', expected text",
        "  - line 300: 1 more cells",
    ]
    assert "--skip-bad-rows" in caught.value.fix


def test_bad_rows_are_left_out_and_counted_but_never_all(capsys: pytest.CaptureFixture[str]) -> None:
    problems = RowProblems("train.csv", skip_bad=True)
    problems.is_good([label(2, "'x'")])
    with pytest.raises(ToolkitError) as caught:
        problems.settle()
    assert not caught.value.fix
    problems.is_good([])
    problems.settle()
    assert capsys.readouterr().out == (
        "train.csv: left out 1 of 2 rows: line 2, column 'label': 'x', expected one of a, b\n"
    )
