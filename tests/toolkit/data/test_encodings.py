"""Encodings are told by the first bytes; bytes that fit none are named by their line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data.encodings import BLOCK, encoding_of, open_text, without_gz
from toolkit.errors import ToolkitError


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        ("text".encode("utf-16"), "utf-16"), ("text".encode("utf-32"), "utf-32"), (b"\xef\xbb\xbftext", "utf-8-sig"),
        ("text,label".encode("utf-16-le"), "utf-16-le"), ("text,label".encode("utf-16-be"), "utf-16-be"),
        (b"text", "utf-8"), (b"", "utf-8"), ("größe".encode(), "utf-8"), (b"a\0b\0", "utf-16-le"), (b"ab\0c", "utf-8"),
    ],
)  # fmt: skip
def test_the_first_bytes_tell(tmp_path: Path, raw: bytes, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(raw)
    assert encoding_of(path) == encoding


def read(path: Path) -> str:
    with open_text(path) as file:
        return file.read()


@given(
    text=st.text(st.characters(max_codepoint=127, min_codepoint=32), min_size=8),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]),
)
def test_plain_letters_survive(tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str) -> None:
    path = tmp_path_factory.mktemp("text") / "a.csv.gz"
    path.write_bytes(gzip.compress(text.encode(encoding), mtime=0))
    assert read(path) == text


@pytest.mark.parametrize("size", [0, 9000, BLOCK + 17])
@pytest.mark.parametrize("gz", [False, True])
def test_a_line_that_is_not_utf8_is_named(tmp_path: Path, size: int, gz: bool) -> None:
    raw = b"text,label\n" + b"x" * size + b",a\nna\xefve,b\n"
    path = tmp_path / ("a.csv.gz" if gz else "a.csv")
    path.write_bytes(gzip.compress(raw, mtime=0) if gz else raw)
    with pytest.raises(ToolkitError, match="is not UTF-8: line 3 holds the byte 0xef") as caught:
        read(path)
    assert "iconv" in caught.value.fix


@pytest.mark.parametrize("content", [b"plain", gzip.compress(b"a" * 9000, mtime=0)[:-20]])
def test_damaged_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ToolkitError, match=r"a\.csv\.gz is damaged"):
        read(path)


def test_the_suffix_before_gz_is_the_format() -> None:
    assert without_gz(Path("a/b.csv.gz")) == without_gz(Path("a/b.csv")) == Path("a/b.csv")
