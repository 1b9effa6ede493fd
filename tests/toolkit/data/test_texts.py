"""Text without labels, from plain files and tables; what cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.data.columns import DataOptions
from toolkit.data.texts import read_texts
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


def test_what_holds_no_text_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in ["fine", 3, " ", None]))
    with pytest.raises(ToolkitError) as caught:
        read_texts(path, pairs=False)
    assert caught.value.problem.splitlines() == [
        f"{path}: 3 problems", "  - lines 2, 3, 4, column 'text': 3, ' ', None, expected text",
    ]  # fmt: skip
    many = tmp_path / "many.jsonl"
    many.write_text('{"text": 1}\n' * 30)
    with pytest.raises(ToolkitError, match="30 problems") as caught:
        read_texts(many, pairs=False)
    assert "lines 1, 2, 3, 4, 5 and 25 more, column 'text': 1, expected text" in caught.value.problem


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
    assert read_texts(path, pairs=False, options=DataOptions(skip_bad_rows=True)) == (["fine"], None)
    assert "left out 1 of 2 rows: line 3: 1 more cells than columns" in capsys.readouterr().out


def test_columns_are_guessed_and_those_of_other_files_are_no_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "more.csv"
    path.write_text("id;Sentence\n1;one\n")
    assert read_texts(path, pairs=False, options=DataOptions(text_column="utterance")) == (["one"], None)
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: semicolons separate its cells", f"{path}: text in the column 'Sentence' (else: --text-column)",
    ]  # fmt: skip
    assert read_texts(path, pairs=False, options=DataOptions(text_column="id")) == (["1"], None)
    path.write_text("text,text_pair\na,b\n")
    with pytest.raises(ToolkitError, match="holds pairs of texts"):
        read_texts(path, pairs=False)
