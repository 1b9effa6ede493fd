"""Hashes of files and canonical JSON, and writes that leave the old file or the new one, never a part."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of `out` on a clean exit, and is removed on any other."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent)
        os.close(handle)
    except OSError as error:
        raise ToolkitError(f"cannot write in {out.parent}: {error.strerror}", fix="another --out") from error
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)  # mkstemp's own is for one user's eyes
        partial.replace(out)
    except OSError as error:
        raise ToolkitError(f"cannot write {out}: {error.strerror or error}", fix="another --out") from error
    finally:
        partial.unlink(missing_ok=True)


def file_record(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of one file, as `bundle.json` stores them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size_bytes": path.stat().st_size, "sha256": digest}


def canonical_json(value: Any) -> bytes:
    """One spelling for one value, so that equal manifests are equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def replace(staging: Path, target: Path) -> None:
    """Rename a finished folder to `target`; what stood there stays until the new one is in its place."""
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
