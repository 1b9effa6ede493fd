"""The real server as a process: it answers, it ends with all that it started, and a failure is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from toolkit.benchmarking.server import process
from toolkit.benchmarking.server.process import launch, serving
from toolkit.errors import ToolkitError
from toolkit.inference.metrics import scores
from toolkit.inference.predictor import open_predictor


def test_the_real_server_is_asked_and_ended(tiny_onnx: Path) -> None:
    text = "a lovely film"
    with serving(tiny_onnx) as server:
        answer = server.predict(text)
    predictor = open_predictor(tiny_onnx)
    expected = scores(predictor.logits(predictor.encoder.encode([text])), "classification")[0]
    assert {pair["label"]: pair["score"] for pair in answer} == pytest.approx(
        dict(zip(predictor.task.labels, expected, strict=True)), abs=1e-6
    )
    assert server.process.returncode == 0
    with pytest.raises(OSError, match="refused"):
        server.predict(text)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="the server did not start") as caught, serving(tmp_path / "none"):
        pass
    assert "none" in str(caught.value)


@pytest.fixture
def silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program that never says a word stand for Python."""
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(silent))


@pytest.mark.usefixtures("silent_server")
def test_a_server_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.2)
    with pytest.raises(ToolkitError, match=r"the server did not start within 0\.2 s"), serving(tmp_path):
        pass


@pytest.mark.usefixtures("silent_server")
def test_an_interrupted_wait_leaves_no_thread_behind(tmp_path: Path) -> None:
    """Python would wait for it when it ends."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt), serving(tmp_path):
            pass
    finally:
        signal.signal(signal.SIGALRM, previous)
    time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def test_a_program_ends_with_the_processes_that_it_started() -> None:
    child = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    with launch([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        os.kill(grandchild, 0)  # it runs
    end = time.monotonic() + 10
    while Path(f"/proc/{grandchild}").exists() and " Z " not in Path(f"/proc/{grandchild}/stat").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_program_gets_variables_but_no_keys_of_a_real_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_API_KEYS", "secret")
    show = "import os; print(os.environ.get('TOOLKIT_API_KEYS'), os.environ['MORE'])"
    with launch([sys.executable, "-c", show], stdout=subprocess.PIPE, MORE="yes") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "None yes\n"
