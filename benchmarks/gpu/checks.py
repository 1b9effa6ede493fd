"""What machine this is, and the tests marked gpu: `pytest -m gpu`; on a CPU the same tests' variants for it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.gpu.report import Part
from benchmarks.paths import ROOT
from toolkit.measurement.environment import environment

LAST_CHARACTERS = 4_000  # of pytest's output, and of a failure


def measure(part: Part) -> None:
    """Store the machine, then the outcome of each test.

    Raises:
        RuntimeError: a test failed, or none ran.
    """
    settings = part.settings
    result: dict[str, Any] = {"environment": environment(settings.device), "tests": None}
    part.keep(result)
    marked = "gpu" if settings.device == "cuda" else "not gpu and not slow"
    report, log = settings.out / "pytest.xml", settings.out / "pytest.log"
    report.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "tests/gpu", "-v", "-m", marked, "-p", "no:cacheprovider",
        f"--junitxml={report}",
    ]  # fmt: skip
    ended = "its time was over"
    with log.open("w", encoding="utf-8") as output, suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, timeout=part.left_s, check=False
        )
        ended = f"exit code {done.returncode}"
    result |= {
        "tests": outcomes(report), "ended": ended,
        "output": log.read_text(encoding="utf-8", errors="replace")[-LAST_CHARACTERS:],
    }  # fmt: skip
    part.keep(result)
    if ended != "exit code 0":
        raise RuntimeError(f"{result['output']}\npytest: {ended}")


def outcomes(report: Path) -> list[dict[str, Any]]:
    """Read the tests, their outcome and their seconds from pytest's XML."""
    if not report.exists():
        return []
    rows = []
    for case in ET.parse(report).iter("testcase"):
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        rows.append({
            "test": f"{case.get('classname')}.{case.get('name')}", "seconds": float(case.get("time", 0)),
            "outcome": problems[0].tag if problems else "passed",
            "message": (problems[0].get("message") or "")[:LAST_CHARACTERS] if problems else None,
        })  # fmt: skip
    return rows
