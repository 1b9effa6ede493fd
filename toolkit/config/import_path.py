"""The import path: packages of this installation come before a user's modules of the same names."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("toolkit", "export", "serve")


def put_own_packages_first() -> None:
    """Keep a user's `serve.py`, or any module in the working directory, from taking the place of ours.

    `python -m` puts the working directory first; the command `toolkit` does not, and neither does it need it. Where
    another directory of the path, such as one of PYTHONPATH, holds such a module, ROOT goes before it.
    """
    with suppress(FileNotFoundError):  # the working directory was removed
        if sys.path and Path(sys.path[0]).resolve() == Path.cwd() != ROOT:
            del sys.path[0]
    if not all(_is_own(name) for name in PACKAGES):
        sys.path.insert(0, str(ROOT))
        importlib.invalidate_caches()


def child_environment() -> dict[str, str]:
    """Give the variables with which a Python process finds modules where this process does, not in its directory."""
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONSAFEPATH": "1"}


def _is_own(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().is_relative_to(ROOT)
