"""Data sets by name, through the library datasets and without a network: a local directory in the hub's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.data.columns import DataOptions
from toolkit.data.datasets import load_split, resolve_task
from toolkit.data.hub_datasets import hub_split
from toolkit.errors import ToolkitError

# datasets leaves files of its own open
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CARD = """---
dataset_info:
  features:
  - name: query
    dtype: string
  - name: label
    dtype:
      class_label:
        names: {'0': refund, '1': delivery, '2': card}
configs:
- config_name: default
  data_files:
  - {split: train, path: train.csv}
%s
---
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "banking"
    path.mkdir()
    (path / "train.csv").write_text("query,label\n" + "".join(f"question {i},{i % 3}\n" for i in range(90)))
    (path / "test.csv").write_text("query,label\nlast one,2\n")
    (path / "README.md").write_text(CARD % "  - {split: test, path: test.csv}")
    return path


def test_classes_have_their_names_and_dev_comes_out_of_train(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"hub:{folder}"
    task = resolve_task("auto", data)
    assert task.labels == ("card", "delivery", "refund")
    train, dev, test = (load_split(task, split, data) for split in ("train", "dev", "test"))
    assert (len(train) + len(dev), test.texts, test.labels.tolist()) == (90, ["last one"], [0])
    first = train.texts.index("question 1") if "question 1" in train.texts else dev.texts.index("question 1")
    assert task.labels[(train if "question 1" in train.texts else dev).labels[first]] == "delivery"
    out = capsys.readouterr().out
    assert f"{data}: dev is 10 % of its rows" in out
    assert f"{data}: text in the column 'query' (else: --text-column)" in out


def test_a_validation_split_is_dev_and_takes_no_share(folder: Path) -> None:
    (folder / "README.md").write_text(CARD % "  - {split: validation, path: test.csv}")
    data = f"hub:{folder}"
    task = resolve_task("auto", data)
    assert (len(load_split(task, "train", data)), load_split(task, "dev", data).texts) == (90, ["last one"])
    with pytest.raises(ToolkitError, match=r"--dev-share 0\.2: .* has the split validation"):
        load_split(task, "dev", data, DataOptions(dev_share=0.2))
    with pytest.raises(ToolkitError, match="has no split 'test'") as caught:
        load_split(task, "test", data)
    assert caught.value.expected == "one of train, validation"


@pytest.mark.parametrize("name", ["hub:", "hub:a:b:c"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ToolkitError, match="no name of a data set"):
        resolve_task("auto", name)


def test_a_name_that_is_not_on_this_machine_needs_a_network() -> None:
    with pytest.raises(ToolkitError, match="cannot read the data set nobody/nothing: the hub cannot be reached"):
        resolve_task("auto", "hub:nobody/nothing")  # the tests run with HF_HUB_OFFLINE=1


def test_a_split_is_named_last_and_needs_no_name_where_it_is_the_only_one(folder: Path) -> None:
    split = hub_split(f"hub:{folder}:test")
    assert [row.cells for row in split.rows()] == [{"query": "last one", "label": "card"}]
    assert (split.columns, str(split)) == (["query", "label"], f"hub:{folder}:test")
    assert split.digest() == hub_split(f"hub:{folder}:default:test").digest()
    assert split.digest() != hub_split(f"hub:{folder}:train").digest()
    with pytest.raises(ToolkitError, match="has no split 'dev'") as caught:
        hub_split(f"hub:{folder}:dev")
    assert caught.value.expected == f"hub:{folder}:train or hub:{folder}:test"
    with pytest.raises(ToolkitError, match=r"which split\?"):
        hub_split(f"hub:{folder}")
    (folder / "README.md").write_text(CARD % "")
    assert len(list(hub_split(f"hub:{folder}").rows())) == 90
