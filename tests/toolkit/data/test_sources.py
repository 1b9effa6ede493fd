"""Where rows lie: a file for each split, one file for both, and what is said and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.columns import DataOptions
from toolkit.data.datasets import load_split, resolve_task
from toolkit.data.sources import data_name, find_table, has_split, is_dev
from toolkit.errors import ToolkitError


def write(path: Path, rows: int = 200) -> Path:
    path.write_text("text,label\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(rows)))
    return path


def test_one_file_is_split_by_its_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "reviews.csv")
    task = resolve_task("auto", path)
    train, dev = load_split(task, "train", path), load_split(task, "dev", path)
    assert set(train.texts) | set(dev.texts) == {f"text {i}" for i in range(200)}
    assert not set(train.texts) & set(dev.texts)
    assert 8 <= len(dev) <= 35
    assert capsys.readouterr().out == (f"{path}: dev is 10 % of its rows, drawn by their text (else: --dev-share)\n")
    half = load_split(task, "dev", path, DataOptions(dev_share=0.5))
    assert set(dev.texts) < set(half.texts)  # rows stay dev as the share grows
    assert len(load_split(task, "all", path)) == 200
    assert capsys.readouterr().out == ""


def test_a_folder_without_dev_takes_a_share_of_train(tmp_path: Path) -> None:
    write(tmp_path / "train.csv")
    options = DataOptions(dev_share=0.25)
    task = resolve_task("auto", tmp_path, options)
    train, dev = (load_split(task, split, tmp_path, options) for split in ("train", "dev"))
    assert (len(train) + len(dev), len(dev) > 25) == (200, True)
    with pytest.raises(ToolkitError, match="has no dev file") as caught:
        load_split(task, "dev", tmp_path)
    assert "--dev-share" in caught.value.fix
    write(tmp_path / "dev.csv", 4)
    with pytest.raises(ToolkitError, match=r"--dev-share 0\.25: .* has dev\.csv for dev"):
        load_split(task, "dev", tmp_path, options)


def test_a_share_without_rows_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "few.csv", 2)
    with pytest.raises(ToolkitError, match=r"few\.csv has no rows for dev") as caught:
        load_split(resolve_task("auto", path), "dev", path, DataOptions(dev_share=0.001))
    assert "--dev-share" in caught.value.fix


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("reviews.csv.gz", "reviews"), ("hub:PolyAI/banking77", "banking77"), ("hub:a/b:config", "b"),
        ("sst2", "my-sst2"), ("mails", "mails"), ("v1.2", "v1.2"),
    ],
)  # fmt: skip
def test_a_task_is_named_by_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    if data.endswith(".gz"):
        (tmp_path / data).touch()
    elif not data.startswith("hub:"):
        (tmp_path / data).mkdir()
        monkeypatch.chdir(tmp_path / data)
        assert data_name(".") == name
        monkeypatch.chdir(tmp_path)
    assert data_name(data) == name


def test_a_task_has_the_name_that_the_user_gives(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv")
    assert (resolve_task("auto", path).name, resolve_task("auto", path, title="moods").name) == ("reviews", "moods")
    assert (resolve_task("auto", path).option, resolve_task("sst2").option) == ("auto", "sst2")


@given(st.text(), st.floats(0.01, 0.99))
def test_equal_texts_are_on_the_same_side(text: str, share: float) -> None:
    assert is_dev(text, share) == is_dev(text, share)
    assert is_dev(text, 1.0)
    assert not is_dev(text, 0.0)
    assert is_dev(text, share) <= is_dev(text, (1 + share) / 2)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [("notes.doc", "train", "no table that is read here"), ("a.csv", "test", "it has no split 'test'")],
)
def test_what_is_no_split_is_refused(tmp_path: Path, name: str, split: str, message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ToolkitError, match=message):
        find_table(tmp_path / name, split)


def test_has_split_asks_only_folders(tmp_path: Path) -> None:
    assert not has_split(tmp_path, "train")
    assert has_split(write(tmp_path / "train.csv"), "train")
    assert has_split(tmp_path, "train")
    assert not has_split(tmp_path, "dev")
