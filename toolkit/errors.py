"""Errors written for the person who made the mistake: what was given, what was expected, what to do next."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

MAX_PROBLEMS = 20
EXTRAS = {
    "torch": "distill",
    "transformers": "distill",
    "accelerate": "distill",
    "datasets": "distill",
    "pyarrow": "distill",
    "sklearn": "distill",
    "scipy": "distill",
    "optimum": "export",
    "onnx": "export",
    "onnxruntime": "serve",
    "fastapi": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "ctranslate2": "peers",
    "nncf": "peers",
    "openvino": "peers",
    "matplotlib": "distill",
    "jinja2": "distill",
}


class ToolkitError(Exception):
    """Bad usage or input. The command line prints it on one screen and exits with 2.

    Args:
        problem: what was given and why it cannot be used.
        expected: what would have been accepted.
        fix: what to do next, as a command where there is one.
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


class GateError(ToolkitError):
    """A claim or a quality gate was not met: the command worked, the result is not good enough. Exit code 1."""

    exit_code = 1


def raise_problems(problems: Iterable[str], *, subject: str, fix: str = "") -> None:
    """Raise one error that lists the first MAX_FAULTS problems found with `subject`; nothing when there is none."""
    found = list(problems)
    if not found:
        return
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [f"and {len(found) - MAX_PROBLEMS} more"]
    raise ToolkitError(f"{subject}: {count}\n" + "\n".join(f"  - {p}" for p in found), fix=fix)


def require_packages(*modules: str, purpose: str, extra: str = "") -> None:
    """Check that optional packages are installed before the work that needs them starts.

    `extra` names the one that brings everything the purpose needs, where that is more than these packages.

    Raises:
        ToolkitError: names the missing packages and the extra that brings them.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        extras = extra or ",".join(sorted({EXTRAS[name] for name in missing}))
        raise ToolkitError(
            f"{purpose} needs {', '.join(missing)}, which this Python does not have",
            fix=f"pip install 'tinybert-toolkit[{extras}]'",
        )
