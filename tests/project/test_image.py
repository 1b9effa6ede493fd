"""The container image: what it holds, how it runs, and its health check."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.server import instructions, serving


def test_the_image_passes_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_the_server_as_nobody_in_particular() -> None:
    steps = instructions((ROOT / "Dockerfile").read_text())
    by_name = dict(steps)
    assert re.fullmatch(r"python:3\.1[1-9]-slim", by_name["FROM"])
    assert ("RUN", "pip install .[serve]") in steps
    assert int(by_name["USER"]) > 0
    assert "/health" in by_name["HEALTHCHECK"]
    command = json.loads(by_name["CMD"])
    assert command[:4] == ["python", "-m", "serve", "/bundle"]
    assert command[command.index("--port") + 1] == by_name["EXPOSE"]
    copied = {part for name, argument in steps if name == "COPY" for part in argument.split()[:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    names = (pattern.removesuffix("*") for pattern in packages["find"]["include"])
    assert copied == sent == {*names, "pyproject.toml", "README.md", "LICENSE"}


def test_the_images_health_check_follows_the_server(tiny_onnx: Path) -> None:
    check = json.loads(dict(instructions((ROOT / "Dockerfile").read_text()))["HEALTHCHECK"].partition("CMD ")[2])
    program = check[2]
    assert check[:2] == ["python", "-c"]
    with serving("-m", "serve", str(tiny_onnx), "--port", "0") as (_, address):
        here = program.replace("http://127.0.0.1:8080", address)
        assert here != program
        assert subprocess.run([sys.executable, "-c", here]).returncode == 0
    assert subprocess.run([sys.executable, "-c", here], stderr=subprocess.DEVNULL).returncode == 1
