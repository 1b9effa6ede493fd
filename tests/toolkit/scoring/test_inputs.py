"""Files are found, checked whole before anything is scored, and read in the same blocks every time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from toolkit.errors import ToolkitError
from toolkit.scoring import inputs
from toolkit.scoring.inputs import Survey, find_sources, survey
from toolkit.tasks import Task

SINGLE = Task("auto", ("a", "b"))


def surveyed(*paths: Path, task: Task | None = SINGLE, skip_bad: bool = False) -> Survey:
    return survey(paths, task, text=None, pair=None, skip_bad=skip_bad)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("text,n\none,1\ntwo,2\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("three\n\nfour\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "five", "n": 3}\n', encoding="utf-8")
    return tmp_path


def test_globs_paths_and_repetitions_give_each_file_once(folder: Path) -> None:
    (folder / "odd[1].txt").write_text("x\n", encoding="utf-8")
    out = folder / "out.parquet"
    names = [Path(str(path)).name for path in find_sources([f"{folder}/b.txt", f"{folder}/*.*"], out)]
    assert names == ["b.txt", "a.csv", "c.jsonl", "odd[1].txt"]
    assert find_sources([f"{folder}/odd[1].txt"], out) == [folder / "odd[1].txt"]


def test_files_that_cannot_be_scored_are_refused(folder: Path) -> None:
    with pytest.raises(ToolkitError, match=r"--input .*none\*: no such file"):
        find_sources([f"{folder}/none*"], folder / "o.csv")
    (folder / "d.pdf").touch()
    with pytest.raises(ToolkitError, match=r"d\.pdf: expected \.txt, \.csv"):
        find_sources([f"{folder}/*"], folder / "o.csv")
    with pytest.raises(ToolkitError, match="is one of the files to score"):
        find_sources([f"{folder}/a.csv"], folder / "." / "a.csv")


def test_blocks_hold_every_row_in_order_with_the_columns_of_all_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK_ROWS", 2)
    inputs_read = surveyed(folder / "a.csv", folder / "b.txt", folder / "c.jsonl")
    assert inputs_read.rows == 5
    assert inputs_read.types == {"text": pa.string(), "n": pa.string()}, "CSV has text, JSON a number"
    blocks = list(inputs_read.blocks())
    assert [(block.number, len(block.rows)) for block in blocks] == [(0, 2), (1, 2), (2, 1)]
    rows = pa.concat_tables([block.table(inputs_read.types) for block in blocks]).to_pylist()
    assert [row["text"] for row in rows] == ["one", "two", "three", "four", "five"]
    assert [row["n"] for row in rows] == ["1", "2", None, None, "3"]
    assert [block.texts() for block in blocks][2] == (["five"], None)


def test_a_block_ends_at_its_bound_of_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_CHARACTERS", 10)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "x", "more": "y" * n}) + "\n" for n in (3, 3, 20, 1)), encoding="utf-8")
    assert [len(block.rows) for block in surveyed(path).blocks()] == [3, 1]


def test_bad_rows_are_named_by_file_and_line_before_anything_is_scored(folder: Path) -> None:
    bad = folder / "bad.csv"
    bad.write_text("text,n\ngood,1\n ,2\ngood,3\na,b,c\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match="2 problems") as caught:
        surveyed(folder / "a.csv", bad)
    assert "line 3, column 'text': ' '" in caught.value.problem
    assert "line 5: 1 more cells than columns" in caught.value.problem
    kept = surveyed(folder / "a.csv", bad, skip_bad=True)
    assert kept.rows == 4
    assert [row.cells["n"] for block in kept.blocks() for row in block.rows] == ["1", "2", "1", "3"]


def test_pairs_and_single_texts_do_not_mix_and_nothing_is_nothing(folder: Path) -> None:
    (folder / "pair.csv").write_text("text,text_pair\na,b\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match="some files hold pairs"):
        surveyed(folder / "a.csv", folder / "pair.csv", task=None)
    (folder / "empty.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match="nothing to score"):
        surveyed(folder / "empty.txt")
