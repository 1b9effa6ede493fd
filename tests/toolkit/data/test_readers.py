"""Text without labels, from plain files and tables; what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.data.readers import Row, is_text, read_rows, read_texts
from toolkit.errors import ToolkitError


def test_plain_text_is_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "more.txt"
    path.write_bytes("\ufeffone line\n\n  größer \r\nlast".encode())
    assert read_texts(path, pairs=False) == (["one line", "größer", "last"], None)


def test_tables_have_named_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,text\n,"one, two"\n1,three\n')
    assert read_texts(tmp_path / "a.csv", pairs=False) == (["one, two", "three"], None)
    rows = [{"text": "a", "text_pair": "b"}, {"text": "c", "text_pair": "d"}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_texts(tmp_path / "b.jsonl", pairs=True) == (["a", "c"], ["b", "d"])


def test_plain_text_is_a_table_of_numbered_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\u2028still two\n", encoding="utf-8")
    assert list(read_rows(path)) == [Row(1, {"text": "one"}), Row(3, {"text": "two\u2028still two"})]


def test_parquet_is_read_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

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


def test_what_holds_no_text_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in ["fine", 3, " ", None]))
    with pytest.raises(ToolkitError) as caught:
        read_texts(path, pairs=False)
    assert "3 problems" in caught.value.problem
    assert "line 2, column 'text': 3, expected text" in caught.value.problem
    many = tmp_path / "many.jsonl"
    many.write_text('{"text": 1}\n' * 30)
    with pytest.raises(ToolkitError, match="30 problems") as caught:
        read_texts(many, pairs=False)
    assert caught.value.problem.endswith("and 10 more")


@pytest.mark.parametrize(
    ("name", "content", "pairs", "message"),
    [
        ("gone.txt", None, False, "no such file"),
        ("plain.txt", b"one", True, "cannot be read as text without labels"),
        ("notes.doc", b"one", False, "cannot be read as text without labels"),
        ("latin.txt", b"gr\xf6sser\n", False, "not UTF-8"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, content: bytes | None, pairs: bool, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolkitError, match=message):
        read_texts(path, pairs=pairs)


@pytest.mark.parametrize("side", ["text", "text_pair"])
def test_half_a_surrogate_pair_is_named_by_its_line(side: str, tmp_path: Path) -> None:
    """JSON can hold it, no tokenizer takes it: a whole pair is text, its halves are not."""
    path = tmp_path / "halves.jsonl"
    whole = {"text": "a \U0001f600", "text_pair": "b"}
    half = {"text": "a", "text_pair": "b"} | {side: "c \ud83d"}
    path.write_text("\n".join(map(json.dumps, [whole, half])))
    with pytest.raises(ToolkitError) as caught:
        read_texts(path, pairs=True)
    assert caught.value.problem.splitlines() == [
        f"{path}: 1 problem", f"  - line 2, column {side!r}: 'c \\ud83d', expected text",
    ]  # fmt: skip
    path.write_text(json.dumps(whole))
    assert read_texts(path, pairs=True) == (["a \U0001f600"], ["b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", True), (" a ", True), ("", False), (" \n", False), (None, False), (3, False), ("\udc00", False)],
)
def test_text_is_a_string_that_is_not_blank(value: object, text: bool) -> None:
    assert is_text(value) is text


def test_cells_without_a_column_are_named_by_their_line(tmp_path: Path) -> None:
    """A text with a comma and no quotes would lose its rest."""
    path = tmp_path / "reviews.csv"
    path.write_text('label,text\npos,"Well, fine"\npos,Well, I liked it a lot\nneg,dull,\n')
    with pytest.raises(ToolkitError) as caught:
        read_texts(path, pairs=False)
    assert caught.value.problem.splitlines() == [
        f"{path}: 1 problem", "  - line 3: 1 more cells than columns: ' I liked it a lot'",
    ]  # fmt: skip


def test_bad_rows_of_text_without_labels_are_left_out_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "more.csv"
    path.write_text("text\nfine\nWell, dull\n")
    assert read_texts(path, pairs=False, skip_bad=True) == (["fine"], None)
    assert "left out 1 of 2 rows, the first for line 3: 1 more cells than columns" in capsys.readouterr().out


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("text,label,text\na,x,b\n")
    with pytest.raises(ToolkitError, match="more than one column 'text'"):
        list(read_rows(tmp_path / "twice.csv"))
