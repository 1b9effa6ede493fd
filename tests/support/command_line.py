"""The command line, in this process or in its own, and the message of a command that refuses its input."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from toolkit.cli.main import main


def toolkit(*arguments: str | Path, cwd: Path | None = None) -> CompletedProcess[str]:
    """Run a command without a process of its own, whose start would take seconds for torch."""
    command, out, err = ["toolkit", *map(str, arguments)], io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with (
        patch.object(sys, "argv", command), patch.dict("os.environ", COLUMNS="120"),
        contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd or Path.cwd()),
    ):  # fmt: skip
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return CompletedProcess(command, int(code or 0), out.getvalue(), err.getvalue())


def process(*arguments: str | Path) -> CompletedProcess[str]:
    """Run a command in a process of its own, for what is read when libraries are imported."""
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def refused(result: CompletedProcess[str]) -> str:
    """The message of a command that ended as a user's mistake should."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 25
    return result.stderr
