"""The command `python -m serve`: it starts, answers, stops, and refuses what cannot work."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.__main__ import listen
from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, exit_of, serving
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor


def test_it_answers_as_the_predictor_does_and_stops_cleanly(tiny_onnx: Path) -> None:
    quiet = ("--workers", "1", "--log-format", "none")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *quiet) as (process, address):
        assert ask(address, "/health") == (200, "")
        status, answer = ask(address, "/predict", {"inputs": [["good film"], ["awful", "plot"]]})
        assert status == 200
        predictor = open_predictor(tiny_onnx, threads=1)
        expected = [predictor.predict(["good film"])[0].max(), predictor.predict(["awful"], ["plot"])[0].max()]
        assert [ranked[0]["score"] for ranked in json.loads(answer)] == pytest.approx(expected, abs=1e-6)
        assert ask(address, "/nowhere")[0] == 404
        resident = re.search(r"^process_resident_memory_bytes (\S+)$", ask(address, "/metrics")[1], re.MULTILINE)
        assert resident
        assert float(resident.group(1)) < 250e6
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_port_in_use_is_named_and_another_one_suggested(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, shown = exit_of(capsys, str(tiny_onnx), "--port", str(port))
        assert code == 2
        assert f"port {port} on 127.0.0.1 is in use" in shown
        suggested = re.search(r"--port (\d+), which is free", shown)
        assert suggested
        listen("127.0.0.1", int(suggested.group(1))).close()


def test_what_cannot_be_served_ends_before_anything_listens(
    tiny_onnx: Path, tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in tiny_onnx.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    with (damaged / "model.onnx").open("r+b") as model:
        model.seek(200)
        model.write(b"\0" * 8)
    with listen("127.0.0.1", 0) as taken:  # would be reported first if the port were tried first
        port = ("--port", str(taken.getsockname()[1]))
        for bundle, expected in ((damaged, "model.onnx"), (tmp_path / "none", "no such"), (tiny_student, "export it")):
            code, shown = exit_of(capsys, str(bundle), *port)
            assert code == 2
            assert expected in shown
            assert "in use" not in shown
        code, shown = exit_of(
            capsys, str(tiny_onnx), *port, "--max-client-batch-size", "600", "--max-batch-tokens", "8"
        )
        assert code == 2
        assert "max_client_batch_size 600" in shown
        assert "max_batch_tokens 8" in shown
        for options in (("--workers", "-1"), ("--timeout-ms", "0"), ("--log-format", "xml")):
            code, shown = exit_of(capsys, str(tiny_onnx), *port, *options)
            assert code == 2
            assert options[1] in shown
        code, shown = exit_of(capsys, str(tiny_onnx), *port, "--api-keys-file", str(tmp_path / "no-keys"))
        assert code == 2
        assert "--api-keys-file" in shown


@pytest.mark.parametrize(
    ("host", "port", "problem"),
    [("127.0.0.1", 65536, "--port 65536"), ("no.such.host.invalid", 0, "--host"), ("192.0.2.1", 0, "cannot listen on")],
)
def test_addresses_that_cannot_be_had(host: str, port: int, problem: str) -> None:
    with pytest.raises(ToolkitError, match=re.escape(problem)):
        listen(host, port)


def test_answering_loads_onnxruntime_and_nothing_of_training(tiny_onnx: Path) -> None:
    program = (
        "import sys, serve.app; before = set(sys.modules);"
        "from fastapi.testclient import TestClient;"
        "client = TestClient(serve.app.create_app(sys.argv[1])); client.__enter__();"
        "assert client.post('/predict', json={'inputs': 'a'}).status_code == 200; client.__exit__();"
        "print('onnxruntime' in before, 'opentelemetry.sdk' in sys.modules,"
        "*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_onnx)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    early, traces, *loaded = done.stdout.split()
    assert early == "False"
    assert "onnxruntime" in loaded
    heavy = {"torch", "transformers", "datasets", "sklearn", "scipy", "onnx", "optimum", "pandas", "matplotlib"}
    assert heavy.isdisjoint(loaded)
    assert traces == "False"  # FastAPI itself brings the interface of OpenTelemetry, not what runs it


def test_a_stderr_that_nobody_reads_and_a_stdout_that_is_full_stop_nothing(tiny_onnx: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = (sys.executable, "-m", "serve", str(tiny_onnx), "--port", address.rpartition(":")[2], "--workers", "1")
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + WAIT
        while True:
            try:
                if ask(address, "/health/ready")[0] == 200:
                    break
            except OSError:
                assert time.monotonic() < end
                assert process.poll() is None
            time.sleep(0.1)
        for _ in range(600):  # a pipe holds some 500 of these lines
            assert ask(address, "/nowhere")[0] == 404
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
    finally:
        process.kill()
        process.communicate()
