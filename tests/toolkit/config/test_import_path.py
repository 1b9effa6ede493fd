"""Our packages are found where a user's folder holds modules of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import refused
from tests.support.paths import ROOT
from toolkit.benchmarking.server.process import launch, serving
from toolkit.config.import_path import child_environment


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A folder of scripts that have the names of our packages and of one that we import."""
    for name in ("serve", "export", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'the script {__name__} ran')\n")
    return tmp_path


@pytest.mark.parametrize("path", [f"{ROOT}", f"{ROOT}{os.pathsep}.", f".{os.pathsep}{ROOT}"])
@pytest.mark.parametrize("command", [["serve", "/none"], ["export", "/none", "--out", "o"]])
def test_a_users_scripts_do_not_take_the_place_of_ours(path: str, command: list[str], user_folder: Path) -> None:
    (user_folder / "tokenizers.py").unlink()  # a path that names the folder asks for its other modules
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", *command], capture_output=True, text=True, cwd=user_folder,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert "/none: no such directory" in refused(done)


def test_python_m_serve_beside_a_users_toolkit_is_ours(tmp_path: Path) -> None:
    (tmp_path / "toolkit.py").write_text("raise SystemExit('the script ran')\n")
    done = subprocess.run(
        [sys.executable, "-m", "serve", "/none"], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "/none: no such directory" in refused(done)


def test_the_processes_of_a_server_find_ours(
    tiny_onnx: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "toolkit", "serve", str(tiny_onnx), "--port", "0", "--processes", "2"]
    monkeypatch.chdir(user_folder)
    with launch(command, stdout=subprocess.PIPE, PYTHONPATH=str(ROOT)) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving {tiny_onnx}")


def test_the_server_of_bench_and_demo_finds_ours(
    tiny_onnx: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user_folder)
    with serving(tiny_onnx) as server:
        assert {pair["label"] for pair in server.predict("a lovely film")} == {"negative", "positive"}


def test_a_child_finds_what_this_process_finds(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user_folder / "mine.py").write_text("print('mine')\n")
    run = [sys.executable, "-c", "import mine"]
    monkeypatch.chdir(user_folder)
    assert subprocess.run(run, capture_output=True, env=os.environ | child_environment()).returncode == 1
    monkeypatch.syspath_prepend("")
    assert subprocess.run(run, capture_output=True, env=os.environ | child_environment()).stdout == b"mine\n"
