"""Rows of train are known by their inputs, and read again by their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from toolkit.data.columns import DataOptions
from toolkit.data.datasets import find_split, load_split, resolve_task
from toolkit.data.sources import DEV_SHARE, WHOLE
from toolkit.data.train_rows import digest_without_dev, fingerprint, load_train
from toolkit.errors import ToolkitError


def test_rows_are_read_again_by_their_numbers(tmp_path: Path) -> None:
    table = [("a", "x"), ("", "y"), ("b", "y"), ("a", "y"), ("c", "x"), ("d", "y")]
    lines = [json.dumps({"text": text, "label": label}) for text, label in table]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(ToolkitError, match="line 2, column 'text'"):
        load_train(resolve_task("auto", tmp_path), tmp_path)
    options = DataOptions(skip_bad_rows=True)
    task = resolve_task("auto", tmp_path, options)
    rows, whole = load_train(task, tmp_path, options), load_split(task, "train", tmp_path, options)
    assert len(rows) == len(whole) == 5
    assert rows.single().tolist() == [1, 3, 4], "a stands twice"
    assert rows.fingerprints.tolist() == [fingerprint(*own) for own in whole.inputs]
    for numbers in ([0], [4], [1, 3], [0, 1, 2, 3, 4]):
        part = rows.take(np.array(numbers))
        assert part.digest == whole.take(np.array(numbers)).digest
        assert part.source.endswith(" rows") == (len(numbers) < 5)
    lines[0] = json.dumps({"text": "a", "label": "y"})
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    assert load_train(task, tmp_path, options).digest != rows.digest, "a label counts"


def test_what_a_single_file_trained_is_known_without_its_dev_share(tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(60)))
    task = resolve_task("auto", file)
    whole, train = find_split(task, WHOLE, file, DataOptions()), load_train(task, file)
    assert 40 < len(train) < 60
    assert digest_without_dev(whole, DEV_SHARE) == train.digest
    assert digest_without_dev(whole, 0.5) != train.digest


def test_the_two_texts_of_a_pair_are_told_apart() -> None:
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("a", "a"), fingerprint("ab", "")}) == 4


def test_a_train_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    task = resolve_task("auto", tmp_path)
    (tmp_path / "train.csv").write_text("text,label\n")
    with pytest.raises(ToolkitError, match="has no rows"):
        load_train(task, tmp_path)
