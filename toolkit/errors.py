"""Errors for the user: the problem, the accepted input, the next step; and a check of optional packages."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Iterable, Sequence

MAX_PROBLEMS = 20
EXTRAS = {
    "torch": "distill",
    "transformers": "distill",
    "accelerate": "distill",
    "datasets": "distill",
    "pyarrow": "distill",
    "sklearn": "distill",
    "scipy": "distill",
    "onnx": "export",
    "onnxruntime": "serve",
    "fastapi": "serve",
    "httpx": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "ctranslate2": "peers",
    "nncf": "peers",
    "openvino": "peers",
    "matplotlib": "distill",
    "jinja2": "distill",
    "model_signing": "sign",
    "cyclonedx": "bom",
    "optuna": "compress",
    "ray": "ray",
}


# errors of the system that the user can end, and how
RESOURCES = {
    errno.ENOSPC: "make room on that disk, or write to another one",
    errno.EDQUOT: "make room in your quota, or write to another disk",
    errno.EFBIG: "ulimit -f unlimited, or a disk for larger files",
    errno.EROFS: "write to another disk",
    errno.EMFILE: "ulimit -n 4096",
    errno.ENFILE: "end other programs: the whole machine has too many files open",
}
NO_TEMPORARY = "No usable temporary directory"  # Python's words, with the number of a missing file


class ToolkitError(Exception):
    """Bad usage or input. The command line prints it on one screen and exits with 2.

    Args:
        problem: the input and why it cannot be used.
        expected: input that is accepted.
        fix: the next step, as a command if there is one.
    """

    exit_code = 2

    def __init__(self, problem: str, *, expected: str = "", fix: str = "") -> None:
        super().__init__(problem)
        self.problem, self.expected, self.fix = problem, expected, fix

    def __str__(self) -> str:
        lines = [self.problem]
        if self.expected:
            lines.append(f"expected: {self.expected}")
        if self.fix:
            lines.append(f"try: {self.fix}")
        return "\n".join(lines)


def reason_of(error: Exception) -> str:
    """Return an error's whole message on one line: many libraries give their reason on the second."""
    return " ".join(str(error).split()) or type(error).__name__


def some(names: Sequence[str], most: int = 10) -> str:
    """List names, the first `most` of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class GateError(ToolkitError):
    """A claim or a quality gate is missed: the command works, its result is not good enough. Exit code 1."""

    exit_code = 1


def raise_problems(problems: Iterable[str], *, subject: str, fix: str = "") -> None:
    """Raise one ToolkitError that lists the first MAX_PROBLEMS problems of `subject`; do nothing if there is none."""
    lines = list(problems)
    if not lines:
        return
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS} more"]
    raise ToolkitError(f"{subject}: {count}\n" + "\n".join(f"  - {line}" for line in lines), fix=fix)


def resource_error(error: BaseException) -> ToolkitError | None:
    """Turn an error of RESOURCES into words; return None for any other. Libraries give some as text alone."""
    if isinstance(error, FileNotFoundError) and NO_TEMPORARY in str(error):
        return ToolkitError("no folder for temporary files can be written", fix="TMPDIR=DIR, a folder that can be")
    code = error.errno if isinstance(error, OSError) and error.errno else None
    if code is None:
        code = next((number for number in RESOURCES if os.strerror(number) in str(error)), None)
    if code not in RESOURCES:
        return None
    name = getattr(error, "filename", None)
    return ToolkitError(f"{os.strerror(code)}{f': {name}' if name else ''}", fix=RESOURCES[code])


def require_packages(*modules: str, purpose: str, extra: str = "") -> None:
    """Check that optional packages are installed, before the work that needs them starts.

    Args:
        modules: names to import.
        purpose: what needs them, for the message.
        extra: the extra to install if the purpose needs more than these packages; by default those of `EXTRAS`.

    Raises:
        ToolkitError: packages are missing; names them and the extra that brings them.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        extras = extra or ",".join(sorted({EXTRAS[name] for name in missing}))
        raise ToolkitError(
            f"{purpose} needs {', '.join(missing)}, which this Python does not have",
            fix=f"pip install 'tinybert-toolkit[{extras}]'",
        )
