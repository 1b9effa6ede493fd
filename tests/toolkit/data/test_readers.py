"""Tables of every format, row by row: what separates cells, what a .json file may be, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.data.readers import Row, delimiter_of, format_remark, header_of, is_text, read_rows
from toolkit.errors import ToolkitError


def cells(path: Path) -> list[dict[str | int, object]]:
    return [row.cells for row in read_rows(path)]


EXPECTED = [{"text": "Well, I liked it; really", "label": "pos"}, {"text": 'say "no"', "label": "neg"}]


@pytest.mark.parametrize(("mark", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "")])
def test_a_csv_file_may_have_other_separators_and_they_are_said(tmp_path: Path, mark: str, words: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f'text{mark}label\n"Well, I liked it; really"{mark}pos\n"say ""no"""{mark}neg\n')
    assert cells(path) == EXPECTED
    assert header_of(path) == ["text", "label"]
    assert format_remark(path) == ([f"{path}: {words} separate its cells"] if words else [])


def test_a_tsv_file_may_have_commas_and_keeps_glue_s_quotes_where_it_has_tabs(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('text,label\n"Well, I liked it; really",pos\n"say ""no""",neg\n')
    assert cells(path) == EXPECTED
    path.write_text('text\tlabel\n"open\tpos\n')
    assert cells(path) == [{"text": '"open', "label": "pos"}]
    path.write_text("text\na, b; c\n")  # one column of text
    assert (delimiter_of(path), cells(path)) == ("\t", [{"text": "a, b; c"}])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_encodings_and_gzip(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = tmp_path / f"train{suffix}"
    raw = "text,label\r\ngrößer,x\r\n".encode(encoding)
    path.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)
    assert cells(path) == [{"text": "größer", "label": "x"}]
    assert format_remark(path) == (
        [] if encoding == "utf-8-sig" else [f"{path}: read as {encoding.upper()}"]
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [json.dumps(EXPECTED), json.dumps({"version": 1, "data": EXPECTED}), "\n".join(map(json.dumps, EXPECTED))],
)
def test_json_is_a_list_an_object_with_one_or_json_lines(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content)
    assert cells(path) == EXPECTED


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": [1], "b": 2}', "[" * 100_000, "{"])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(ToolkitError, match=r"train\.json"):
        cells(path)


def test_plain_text_is_a_table_of_numbered_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\u2028still two\n", encoding="utf-8")
    assert list(read_rows(path)) == [Row(1, {"text": "one"}), Row(3, {"text": "two\u2028still two"})]


def test_parquet_is_read_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, batch_type = list[int](), pq.ParquetFile
    pq.write_table(pa.table({"text": list(map(str, range(5000)))}), tmp_path / "a.parquet")

    class Counting(batch_type):  # type: ignore[misc,valid-type]
        def iter_batches(self, size: int) -> Iterator[object]:
            for batch in super().iter_batches(size):
                read.append(batch.num_rows)
                yield batch

    monkeypatch.setattr(pq, "ParquetFile", Counting)
    rows = read_rows(tmp_path / "a.parquet")
    assert [next(rows) for _ in range(3)][2] == Row(3, {"text": "2"})
    assert read == [1024]
    assert len(list(rows)) == 4997


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", True), (" a ", True), ("", False), (" \n", False), (None, False), (3, False), ("\udc00", False)],
)
def test_text_is_a_string_that_is_not_blank(value: object, text: bool) -> None:
    assert is_text(value) is text


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("text,label,text\na,x,b\n")
    with pytest.raises(ToolkitError, match="more than one column 'text'"):
        list(read_rows(tmp_path / "twice.csv"))
