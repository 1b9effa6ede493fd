"""No command asks the network for anything or leaves a file in the home directory, whatever libraries would do."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.test_layers import imports
from tests.support.exporting import LOOSE
from tests.support.paths import ROOT
from tests.support.watched import can_unshare, watch

SWITCH = "ORT_DISABLE_TELEMETRY"
TELLING = {"onnxruntime", "optimum"}  # optimum imports onnxruntime
SERVE = """
import sys
from tests.support.server import ask, serving
with serving("-m", "serve", sys.argv[1], "--port", "0", "--workers", "1", "--processes", sys.argv[2]) as (process, url):
    assert ask(url, "/predict", {"inputs": "a warm film"})[0] == 200
    process.terminate()
    assert process.wait(30) == 0
"""


def importers() -> Iterator[tuple[Path, str]]:
    """Modules that import onnxruntime, but tests: tests/conftest.py has imported ours before them."""
    for package in ("toolkit", "export", "serve", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if TELLING & {name.split(".")[0] for name in imports(source)}:
                yield path, source


def test_ours_comes_before_onnxruntime() -> None:
    paths = []
    for path, source in importers():
        at_import = {name.split(".")[0] for name in imports(source, top_only=True)}
        assert not TELLING & at_import, f"{path}: import onnxruntime in the function that needs it"
        assert "toolkit" in at_import, f"{path}: nothing of toolkit is imported before onnxruntime"
        paths.append(path)
    assert len(paths) > 5
    assert os.environ[SWITCH] == "1"
    first = next(
        node for node in ast.parse((ROOT / "tests" / "conftest.py").read_text()).body if "toolkit" in ast.dump(node)
    )
    assert ast.unparse(first) == "import toolkit"


def test_predict_looks_nothing_up_and_leaves_no_file(tiny_onnx: Path, tmp_path: Path) -> None:
    assert watch(tmp_path, "-m", "toolkit", "predict", str(tiny_onnx), "a warm film") == (set(), set())


@pytest.mark.parametrize("processes", ["1", "2"])
def test_serve_looks_nothing_up_and_leaves_no_file(tiny_onnx: Path, tmp_path: Path, processes: str) -> None:
    assert watch(tmp_path, "-c", SERVE, str(tiny_onnx), processes) == (set(), set())


def test_export_looks_nothing_up_and_leaves_no_file(tiny_student: Path, data_dir: Path, tmp_path: Path) -> None:
    options = ("--data", str(data_dir), "--max-drop", str(LOOSE), "--int8", "--tune")
    command = ("export", str(tiny_student), *options, "--out", str(tmp_path / "int8"))
    assert watch(tmp_path, "-m", "toolkit", *command) == (set(), set())


PEERS = """
import sys
import numpy as np
from pathlib import Path
from toolkit.benchmarking.other_runtimes import OpenVinoRuntime
batch = {name: np.ones((1, 8), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
for precision in ("fp32", "int8"):
    OpenVinoRuntime(Path(sys.argv[1]), precision=precision, calibration=[batch]).run(batch)
"""
CARELESS = """
import pathlib, socket
try:
    socket.getaddrinfo("collector.example", 443)
except OSError:
    pass
folder = pathlib.Path.home() / ".cache"
folder.mkdir()
(folder / "deviceid").write_text("42")
"""


def test_openvino_looks_nothing_up_and_leaves_no_file(tiny_onnx: Path, tmp_path: Path) -> None:
    assert watch(tmp_path, "-c", PEERS, str(tiny_onnx / "model.onnx")) == (set(), set())


def test_what_is_looked_up_and_left_is_noticed(tmp_path: Path) -> None:
    names, files = watch(tmp_path, "-c", CARELESS)
    assert files == {".cache/deviceid"}
    if can_unshare():
        assert names == {"collector.example"}
