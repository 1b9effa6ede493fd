"""Bounded reads, file hashes, canonical JSON, and atomic writes: a crash leaves the old or the new, never a part."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from toolkit.errors import ToolkitError

COMMAND = "command.json"  # the command that a folder of unfinished work belongs to


class FileRecord(TypedDict):
    """Size and SHA-256 of a file, as manifests store them."""

    size_bytes: int
    """Size in bytes."""
    sha256: str
    """SHA-256 of the content, in hexadecimal."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read. A FIFO or a device could hold its reader for ever.

    Raises:
        ToolkitError: something else than a regular file, such as a FIFO, a socket, a device or a directory.
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ToolkitError(f"{path} is not a regular file", expected="a file, or a link to one")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes; a larger one is refused before it is read.

    Raises:
        ToolkitError: not a regular file, or too large.
        OSError: it cannot be opened or read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise ToolkitError(f"{path} has {size:,} bytes", expected=f"at most {most:,}")
    return content


def file_record(path: Path) -> FileRecord:
    """Measure and hash a regular file.

    Raises:
        ToolkitError: not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return {"size_bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def canonical_json(value: Any) -> bytes:
    """Encode a value in the only spelling that it has, so that equal manifests are equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def atomic_file(out: Path, *, fix: str = "another --out") -> Iterator[Path]:
    """Yield a temporary sibling; on a clean exit flush it to the disk and rename it to `out`, else remove it.

    Args:
        out: the file to write; an older one is replaced.
        fix: the advice in the error.

    Raises:
        ToolkitError: `out` cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
        os.close(handle)
    except OSError as error:
        raise ToolkitError(f"cannot write in {out.parent}: {error.strerror}", fix=fix) from error
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)  # mkstemp lets nobody but the owner read
        _flush(partial)
        partial.replace(out)
    except OSError as error:
        raise ToolkitError(f"cannot write {out}: {error.strerror or error}", fix=fix) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the right to write `out`: no other process does meanwhile. Remove what killed writers left beside it.

    Raises:
        ToolkitError: another process is writing it, or the folder around it cannot be written.
    """
    lock = out.with_name(f".{out.name}.lock")
    try:
        handle = _lock(lock, out)
    except OSError as error:
        raise ToolkitError(f"cannot write in {out.parent}: {error.strerror}", fix="another --out") from error
    try:
        _remove_leftovers(out)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """Yield a temporary sibling; on a clean exit flush its files and rename it to `out`, else remove it.

    Args:
        out: the folder to write; an older one stays until the new one can take its place.

    Raises:
        ToolkitError: the folder around `out` cannot be written.
    """
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ToolkitError(f"cannot write in {out.parent}: {error.strerror}", fix="another --out") from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp's 0700 locks out the user that a server runs as
        flush_directory(staging)
        _replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_same_command(folder: Path, command: Mapping[str, object], *, holds: str, expected: str) -> None:
    """Compare a command with the one that left unfinished work in a folder, as COMMAND there names it.

    Args:
        folder: of the work; without COMMAND in it there is none.
        command: options and digests of inputs, by name, as they come back from JSON.
        holds: the work, in words.
        expected: inputs that may go on with it, in words.

    Raises:
        ToolkitError: another command left it; the differences are listed.
    """
    try:
        stored = json.loads((folder / COMMAND).read_bytes())
    except (OSError, ValueError):
        return
    differing = [
        f"{name}: {_short(stored.get(name))} there, {_short(command.get(name))} here"
        for name in sorted({*stored, *command})
        if stored.get(name) != command.get(name)
    ]
    if differing:
        raise ToolkitError(
            f"{folder} holds {holds} of another command:\n" + "\n".join(f"  - {line}" for line in differing),
            expected=expected, fix=f"another --out, or start over: rm -r {folder}",
        )  # fmt: skip


def flush_directory(folder: Path) -> None:
    """Write every file of a folder through to the disk: a renamed folder must never point at unwritten bytes."""
    for path in folder.rglob("*"):
        if path.is_file():
            _flush(path)


def _lock(lock: Path, out: Path) -> int:
    """Open and lock a file. The system lets go of the lock when the process ends, however it does."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.name == "posix":
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and lock.stat().st_ino == os.fstat(handle).st_ino:
                return handle  # else the process that held it removed it meanwhile
        except BlockingIOError:
            os.close(handle)
            raise ToolkitError(
                f"another process is writing {out}", fix="another --out, or wait until it ends"
            ) from None
        except OSError:
            return handle  # a file system without locks
        os.close(handle)


def _remove_leftovers(out: Path) -> None:
    """Remove temporary siblings of dead processes; put back the folder that one was just replacing."""
    name = glob.escape(out.name)
    for old in out.parent.glob(f".{name}.replaced-*"):
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(out)
    for partial in out.parent.glob(f".{name}.{'[a-z0-9_]' * 8}.partial"):  # as tempfile names them
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)  # a SHA-256


def _replace(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    old = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
