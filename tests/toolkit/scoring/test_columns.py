"""Which columns hold the texts, and a type for every column that all of its values fit."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.data.readers import Row
from toolkit.errors import ToolkitError
from toolkit.scoring.columns import TextColumns, column_array, find_text_columns, merge_types, types_of
from toolkit.tasks import Task, get_task

SINGLE, PAIR = Task("auto", ("a", "b")), Task("auto", ("a", "b"), pair_column="text_pair")


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_text_and_text_pair_are_the_columns_unless_others_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text,text_pair,body\n1,a,b,c\n")
    assert find_text_columns(path, PAIR) == TextColumns("text", "text_pair")
    assert find_text_columns(path, PAIR, text="body", pair="id") == TextColumns("body", "id")
    assert find_text_columns(path, SINGLE, text="body") == TextColumns("body", None)
    assert find_text_columns(write(tmp_path / "a.txt", "one\n"), SINGLE) == TextColumns("text", None)


def test_a_model_that_does_not_say_reads_pairs_where_the_file_has_them(tmp_path: Path) -> None:
    assert find_text_columns(write(tmp_path / "p.csv", "text,text_pair\na,b\n"), None).pair == "text_pair"
    assert find_text_columns(write(tmp_path / "s.csv", "text,id\na,b\n"), None).pair is None
    assert find_text_columns(tmp_path / "s.csv", None, pair="id").pair == "id"


def test_glue_s_own_columns_are_read_from_tsv(tmp_path: Path) -> None:
    sst2 = write(tmp_path / "sst2.tsv", "index\tsentence\n0\ta film\n")
    assert find_text_columns(sst2, get_task("sst2")) == TextColumns("sentence", None)
    cola = write(tmp_path / "cola.tsv", "gj04\t1\t\tThe sailors rode the breeze.\n")
    assert find_text_columns(cola, get_task("cola")) == TextColumns(3, None, header=False)
    own = write(tmp_path / "own.tsv", "text\tlabel\na\t1\n")
    assert find_text_columns(own, get_task("cola")) == TextColumns("text", None)


def test_pairs_for_a_model_of_single_texts_and_missing_columns_are_refused(tmp_path: Path) -> None:
    pairs = write(tmp_path / "p.csv", "text,text_pair\na,b\n")
    with pytest.raises(ToolkitError, match="holds pairs of texts, in 'text_pair'"):
        find_text_columns(pairs, SINGLE)
    assert find_text_columns(pairs, SINGLE, text="text").pair is None
    with pytest.raises(ToolkitError, match="no column 'text_pair'; it has 'text'") as caught:
        find_text_columns(write(tmp_path / "s.csv", "text\na\n"), PAIR)
    assert caught.value.fix == "--pair-column NAME"


def test_types_are_parquet_s_own_and_json_s_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.array([1], pa.int16())}), tmp_path / "a.parquet")
    assert types_of(tmp_path / "a.parquet", []) == {"text": pa.string(), "n": pa.int16()}
    rows = [Row(1, {"n": 1, "tags": ["x"]}), Row(2, {"n": 2.5, "flag": True, "mixed": 1}), Row(3, {"mixed": "one"})]
    assert types_of(Path("a.jsonl"), rows) == {
        "n": pa.float64(), "tags": pa.list_(pa.string()), "flag": pa.bool_(), "mixed": pa.string(),
    }  # fmt: skip
    assert types_of(Path("a.csv"), [Row(2, {"n": "1"})]) == {"n": pa.string()}


def test_merged_types_hold_the_values_of_both() -> None:
    first = {"a": pa.int64(), "b": pa.null(), "c": pa.int64(), "e": pa.null()}
    second = {"a": pa.float64(), "b": pa.int64(), "c": pa.string(), "d": pa.bool_(), "e": pa.null()}
    assert merge_types(first, second) == {
        "a": pa.float64(), "b": pa.int64(), "c": pa.string(), "d": pa.bool_(), "e": pa.null(),
    }  # fmt: skip
    assert list(merge_types({}, second)) == list(second)


def test_a_text_column_takes_any_value_and_no_half_of_a_surrogate_pair() -> None:
    values = [1, {"a": [2]}, "text", None, json.loads('"half \\ud800"')]
    assert column_array(values, pa.string(), "c").to_pylist() == ["1", '{"a": [2]}', "text", None, "half \\ud800"]
    assert column_array([1, 2.5, None], pa.float64(), "c").to_pylist() == [1.0, 2.5, None]
    with pytest.raises(ToolkitError, match="lines 1 to 2, column 'n' cannot be written"):
        column_array(["x"], pa.int64(), "lines 1 to 2, column 'n'")
