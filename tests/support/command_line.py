"""The real command line as a process, and the message of a command that refuses its input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def toolkit(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that ended as a user's mistake should."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 25
    return result.stderr
