"""Rows that choose are taken out of train, are the same ones each time, and are never learnt from or reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.datasets import Split, load_test, resolve_task
from toolkit.data.splits import TaskSplits, default_selection, draw_selection, load_splits
from toolkit.data.train_rows import TrainRows, fingerprint
from toolkit.errors import ToolkitError
from toolkit.tasks import get_task


def write(folder: Path, **rows: int) -> Path:
    """Files of so many rows, each text its own."""
    folder.mkdir(exist_ok=True)
    for split, count in rows.items():
        lines = [{"text": f"{split} {i}", "label": "ab"[i % 2]} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def load(folder: Path, selection_rows: int | None = None, max_rows: int | None = None, seed: int = 1) -> TaskSplits:
    task = resolve_task("auto", folder)
    return load_splits(task, str(folder), selection_rows=selection_rows, max_rows=max_rows, seed=seed)


def known(inputs: list[tuple[str, str]]) -> TrainRows:
    """Rows that are only drawn from, not read."""

    def take(numbers: np.ndarray) -> Split:
        raise AssertionError(numbers)

    return TrainRows(np.array([fingerprint(*own) for own in inputs], dtype=np.uint64), "digest", "train.csv", take)


@pytest.mark.parametrize(
    ("rows", "count"),
    [(99, 0), (100, 20), (400, 80), (1_000, 200), (2_000, 200), (6_909, 690), (20_000, 2_000), (400_000, 2_000)],
)
def test_a_tenth_of_train_chooses_within_bounds(rows: int, count: int) -> None:
    assert default_selection(rows, rows) == count


def test_how_one_file_is_read_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.csv"
    path.write_text("Sentence;Category\n" + "".join(f"text {i};{'ab'[i % 2]}\n" for i in range(100)))
    task = resolve_task("auto", path)
    load_splits(task, str(path), selection_rows=None, max_rows=None, seed=1)
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: semicolons separate its cells",
        f"{path}: dev is 10 % of its rows, drawn by their text (else: --dev-share)",
        f"{path}: text in the column 'Sentence', label in the column 'Category' (else: --text-column, --label-column)",
    ]


def test_dev_rows_that_stand_in_train_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "data", train=100, dev=5, test=4)
    load(folder)
    assert "stand in train" not in capsys.readouterr().out
    with (folder / "dev.jsonl").open("a") as file:
        file.writelines(json.dumps({"text": f"train {i}", "label": "b"}) + "\n" for i in (3, 5))
    load(folder)
    assert capsys.readouterr().out == "dev: 2 of 7 texts stand in train too: the model has learnt them\n"


def test_texts_that_stand_twice_are_learnt_from() -> None:
    texts = [f"text {i}" for i in range(300)] + ["again"] * 200
    split = known([(text, text) for text in texts])
    assert len(draw_selection(split, None, 0)) == 100
    for seed in range(5):
        assert draw_selection(split, 300, seed).tolist() == list(range(300))
    with pytest.raises(ToolkitError, match="500 rows, 300 of them with a text of their own"):
        draw_selection(split, 301, 0)
    pairs = known([("again", f"second {i}") for i in range(500)])
    assert len(draw_selection(pairs, 499, 0)) == 499
    with pytest.raises(ToolkitError, match="--selection-rows 500"):
        draw_selection(pairs, 500, 0)
    assert default_selection(500, 19) == 0


@given(st.integers(2, 60), st.data(), st.integers(0, 100))
def test_no_row_is_in_two_places_and_none_is_lost(rows: int, data: st.DataObject, seed: int) -> None:
    split = known([(str(i), str(i)) for i in range(rows)])
    count = data.draw(st.integers(0, rows - 1))
    drawn = draw_selection(split, count, seed)
    assert len(drawn) == len(set(drawn.tolist())) == count
    assert drawn.tolist() == sorted(drawn.tolist()) == draw_selection(split, count, seed).tolist()


def test_without_a_test_file_rows_of_train_choose_and_dev_is_reported(tmp_path: Path) -> None:
    splits = load(write(tmp_path / "d", train=500, dev=30))
    assert splits.selection is not None
    assert (splits.chooser, splits.reported, len(splits.selection), len(splits.learnt)) == ("train", "dev", 100, 400)
    assert set(splits.selection.texts).isdisjoint(splits.learnt.texts)
    assert {*splits.selection.texts, *splits.learnt.texts} == {f"train {i}" for i in range(500)}
    assert splits.drawn_inputs == set(splits.selection.inputs)
    assert splits.judges is splits.selection
    assert set(splits.digests) == {"train", "selection", "dev"}
    assert splits.describe() == "100 of train choose the step, 30 of dev are reported"
    again, other = load(tmp_path / "d"), load(tmp_path / "d", seed=2)
    assert again.digests == splits.digests
    assert other.digests["selection"] != splits.digests["selection"]
    few = load(tmp_path / "d", max_rows=50)
    assert few.digests == splits.digests, "a subset is drawn from the rows that do not choose"
    assert len(few.learnt) == 50
    assert set(few.learnt.texts) < set(splits.learnt.texts)


def test_a_test_file_is_reported_and_dev_chooses(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", train=500, dev=30, test=40)
    splits = load(folder)
    assert (splits.chooser, splits.reported, len(splits.learnt)) == ("dev", "test", 500)
    assert splits.selection is splits.judges is splits.dev
    assert splits.digests["selection"] == splits.digests["dev"] != splits.digests["test"]
    assert splits.describe() == "30 of dev choose the step, 40 of test are reported"
    held = load(folder, selection_rows=25)
    assert (held.chooser, held.reported, len(held.learnt)) == ("train", "test", 475)
    last = load(folder, selection_rows=0)
    assert (last.chooser, last.selection, len(last.learnt)) == (None, None, 500)
    assert last.judges is last.dev, "test reports, so dev may judge a teacher"


def test_where_nothing_chooses_the_reported_rows_do_not_judge_the_teacher_either(tmp_path: Path) -> None:
    for splits in (load(write(tmp_path / "d", train=60, dev=30)), load(tmp_path / "d", selection_rows=0)):
        assert splits.selection is None
        assert splits.judges.texts == splits.learnt.texts == [f"train {i}" for i in range(60)]
        with pytest.raises(ToolkitError, match="--patience 3: no rows choose the step") as caught:
            splits.check_patience(3)
        assert "--selection-rows" in caught.value.fix
        splits.check_patience(None)


@pytest.mark.parametrize(
    ("task", "header", "row"),
    [
        ("sst2", "index\tsentence\n", "0\tuneasy mishmash of styles\n"),
        ("cola", "index\tsentence\n", "0\tBill whistled past the house.\n"),
        ("rte", "index\tsentence1\tsentence2\n", "0\tMangla was summoned.\tShe died.\n"),
        ("mrpc", "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n", "0\t1\t2\tHe said so.\tSo he said.\n"),
    ],
)
def test_glue_s_test_files_have_no_labels_and_count_as_absent(
    task: str, header: str, row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.tsv").write_text(header + row)
    assert load_test(get_task(task), tmp_path) is None
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'test.tsv'} has no labels")


def test_labels_of_a_test_file_that_are_not_published_are_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", train=10, dev=4)
    task = resolve_task("auto", folder)
    assert load_test(task, folder) is None, "there is no file"
    for label in ("-1", '""', "null"):  # as the hub's GLUE, and as tables that people fill
        (folder / "test.jsonl").write_text(f'{{"text": "t", "label": {label}}}\n' * 3)
        assert load_test(task, folder) is None
    (folder / "test.jsonl").write_text('{"text": "t", "label": "a"}\n{"text": "u", "label": null}\n')
    with pytest.raises(ToolkitError, match="line 2, column 'label'"):
        load_test(task, folder)
    (folder / "test.jsonl").write_text('{"nothing": "t", "label": "a"}\n')
    with pytest.raises(ToolkitError, match="no column 'text'"):
        load_test(task, folder)
