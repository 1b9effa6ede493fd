"""Text files as people have them: UTF-8 or UTF-16, with or without a byte-order mark, plain or gzipped."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from toolkit.errors import ToolkitError

# UTF-32 first: its mark begins with that of UTF-16
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
PROBE = 4096  # bytes that tell an encoding
BLOCK = 1 << 20


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, gzipped or not, in the encoding that its first bytes show; line ends stay as they are.

    Raises:
        ToolkitError: while reading, bytes that are not of that encoding, or damaged gzip.
    """
    encoding = encoding_of(path)
    try:
        with _open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
            yield file
    except UnicodeDecodeError:
        raise _not_text(path, encoding) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ToolkitError(f"{path} is damaged: {error}", expected="a whole .gz file") from None


def encoding_of(path: Path) -> str:
    """Tell a file's encoding by its byte-order mark, or UTF-16 without one by the zeros of its plain letters."""
    try:
        with _open_bytes(path) as file:
            start = file.read(PROBE)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ToolkitError(f"{path} is damaged: {error}", expected="a whole .gz file") from None
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    even, odd = start[::2], start[1::2]
    if odd.count(0) > len(start) // 4 and not even.count(0):
        return "utf-16-le"
    if even.count(0) > len(start) // 4 and not odd.count(0):
        return "utf-16-be"
    return "utf-8"


def without_gz(path: Path) -> Path:
    """Take .gz off a name: the suffix before it tells the format."""
    return path.with_suffix("") if path.suffix == ".gz" else path


def _open_bytes(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _not_text(path: Path, encoding: str) -> ToolkitError:
    """Name the first line that cannot be decoded; the file is read in blocks."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    with _open_bytes(path) as file:
        try:
            while block := file.read(BLOCK):
                line += decoder.decode(block).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raw = bytes(error.object)
            line += raw[: error.start].count(b"\n")
            name = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
            return ToolkitError(
                f"{path} is not {name}: line {line} holds the byte {raw[error.start]:#04x}",
                fix=f"iconv -f WINDOWS-1252 -t UTF-8 {path.name}, or from whatever its encoding is",
            )
    return ToolkitError(f"{path} changed while it was read", fix="run the command again")
