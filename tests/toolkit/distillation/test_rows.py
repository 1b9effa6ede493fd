"""The rows that a student learns from: unlabelled text is learnt from too, bad rows are faults or left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.data import rows
from tests.support.distillation import distill
from toolkit.data.columns import DEFAULTS, DataOptions
from toolkit.distillation.rows import TaskRows
from toolkit.errors import ToolkitError


def test_unlabelled_text_is_learnt_from_too(teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in rows(100, seed=9)))
    plain = distill(teacher, data_dir, tmp_path / "a", intermediate_epochs=1, prediction_epochs=1)
    fuller = distill(
        teacher, data_dir, tmp_path / "b", intermediate_epochs=1, prediction_epochs=1, unlabelled=str(more)
    )
    steps = [[m["stages"][name]["steps"] for name in ("intermediate", "prediction")] for m in (plain, fuller)]
    assert steps == [[8, 8], [12, 12]]  # 256 rows, then 356, 32 a step
    assert set(fuller["data"]) == {"train", "selection", "dev", "unlabelled"}
    more.write_text("  \n")
    with pytest.raises(ToolkitError, match="no such file"):
        distill(teacher, data_dir, tmp_path / "c", unlabelled=str(tmp_path / "gone.txt"))


def load(folder: Path, unlabelled: str | None, options: DataOptions = DEFAULTS) -> TaskRows:
    return TaskRows.load(
        ("negative", "positive"), "auto", str(folder), augment=None, unlabelled=unlabelled, selection_rows=None,
        max_rows=None, seed=3, options=options,
    )  # fmt: skip


def test_bad_rows_of_every_file_are_left_out_where_the_user_says_so(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.csv", "more.csv"):
        (tmp_path / name).write_text('text,label\n"a warm film",positive\n"",negative\n"a dull plot",negative\n')
    for unlabelled in (None, str(tmp_path / "more.csv")):
        with pytest.raises(ToolkitError, match="line 3, column 'text'"):
            load(tmp_path, unlabelled)
    data = load(tmp_path, str(tmp_path / "more.csv"), DataOptions(skip_bad_rows=True))
    assert (len(data.train), len(data.splits.dev), len(data.inputs[0])) == (2, 2, 4)
