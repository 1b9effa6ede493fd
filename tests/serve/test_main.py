"""The server as a process: it starts, answers, drains and stops as an operator expects, and its image is sound."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tokenizers import Tokenizer

from serve.__main__ import listen
from tests.support.arithmetic_bundles import SLOW, save_arithmetic
from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, exit_of, instructions, serving, until
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A bundle whose every batch takes about half a second."""
    graph = SLOW.replace("ROUNDS", "150")
    return save_arithmetic(tmp_path_factory.mktemp("slow") / "bundle", tokenizer, graph)


def test_it_answers_as_the_predictor_does_and_stops_cleanly(tiny_onnx: Path) -> None:
    quiet = ("--workers", "1", "--log-format", "none")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *quiet) as (process, address):
        assert ask(address, "/health") == (200, "")
        status, answer = ask(address, "/predict", {"inputs": [["good film"], ["awful", "plot"]]})
        assert status == 200
        predictor = open_predictor(tiny_onnx, threads=1)
        expected = [predictor.predict(["good film"])[0].max(), predictor.predict(["awful"], ["plot"])[0].max()]
        assert [one[0]["score"] for one in json.loads(answer)] == pytest.approx(expected, abs=1e-6)
        assert ask(address, "/nowhere")[0] == 404
        resident = re.search(r"^process_resident_memory_bytes (\S+)$", ask(address, "/metrics")[1], re.MULTILINE)
        assert resident
        assert float(resident.group(1)) < 250e6
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out, err) == (0, "", "")


def test_sigterm_answers_what_was_accepted_first(slow: Path) -> None:
    answers: list[tuple[int, str]] = []
    options = ("--workers", "1", "--max-batch-requests", "1", "--log-format", "none")
    with serving("-m", "serve", str(slow), "--port", "0", *options) as (process, address):
        clients = [
            threading.Thread(target=lambda: answers.append(ask(address, "/predict", {"inputs": "a"}))) for _ in range(3)
        ]
        for client in clients:
            client.start()
        until(address, r'^te_request_count{method="single"} 3\.0$')
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(WAIT)
        _, err = process.communicate(timeout=WAIT)
        assert (process.returncode, err) == (0, "")
    assert answers == [(200, '[{"score":10.0,"label":"score"}]')] * 3  # ids 2 + 5 + 3


def test_sigterm_turns_readiness_off_first_and_goes_on_answering(tiny_onnx: Path) -> None:
    options = ("--workers", "1", "--log-format", "none", "--shutdown-delay-s", "2")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        assert ask(address, "/health/ready")[0] == 200
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + WAIT
        while (status := ask(address, "/health/ready")[0]) == 200:
            assert time.monotonic() < end
        assert status == 503
        assert ask(address, "/v2/health/ready")[0] == 503
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200  # by a new connection
        assert ask(address, "/health/live")[0] == 200
        _, err = process.communicate(timeout=WAIT)
        assert (process.returncode, err) == (0, "")


def test_sigterm_waits_for_a_stalled_client_only_so_long(tiny_onnx: Path) -> None:
    options = ("--workers", "1", "--log-format", "json", "--drain-s", "1")
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        stalled = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        stalled.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert ask(address, "/predict", {"inputs": "good film"})[0] == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)  # far less than the default 30 s and what else may wait
        told = stalled.makefile("rb").read()
        stalled.close()
        assert process.returncode == 0
        assert "Traceback" not in err
    assert told.startswith(b"HTTP/1.1 503 ")
    assert told.endswith(b'{"error":"shutting down","error_type":"Unhealthy"}')


def test_a_client_that_hangs_up_is_dropped(slow: Path) -> None:
    with serving("-m", "serve", str(slow), "--port", "0", "--workers", "1") as (_, address):
        body = b'{"inputs": "a"}'
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connections = []
        for count in (1, 2):
            connection = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
            connection.sendall(head % len(body) + body)
            connections.append(connection)
            until(address, rf'^te_request_count{{method="single"}} {count}\.0$')
        for connection in connections:
            connection.close()
        until(address, r'^te_request_failure{err="dropped"} 2\.0$')
        until(address, r"^te_queue_size 0\.0$")
        assert ask(address, "/predict", {"inputs": "a"})[0] == 200


def test_a_client_that_hangs_up_on_requests_it_sent_at_once_is_dropped(slow: Path) -> None:
    """Uvicorn tells the request that came last, and not the one that is running."""
    options = ("--port", "0", "--workers", "1", "--log-format", "json")
    with serving("-m", "serve", str(slow), *options) as (process, address):
        body = b'{"inputs": "a"}'
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        connection.sendall(3 * (head % len(body) + body))
        answer = b""
        while not answer.endswith(b'"label":"score"}]'):
            answer += connection.recv(4096)
        until(address, r'^te_request_count{method="single"} 2\.0$')
        connection.close()
        until(address, r'^te_request_failure{err="dropped"} 1\.0$')
        assert 'te_request_success{method="single"} 1.0' in ask(address, "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)
    assert "error" not in err
    assert process.returncode == 0


def test_the_log_is_json_and_holds_no_text(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first-key\nsecond-key\n")
    options = ("--log-format", "json", "--api-keys-file", str(tmp_path / "keys"))
    with serving("-m", "serve", str(tiny_onnx), "--port", "0", *options) as (process, address):
        assert ask(address, "/health") == (200, "")
        assert ask(address, "/predict", {"inputs": "private words"})[0] == 401
        request = Request(
            address + "/predict?q=private", json.dumps({"inputs": ["private words", "good film"]}).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer second-key", "X-Request-Id": "mine-1"},
        )  # fmt: skip
        with urlopen(request, timeout=WAIT) as response:
            assert response.headers["x-request-id"] == "mine-1"
            assert "server" not in response.headers
        half = socket.create_connection((address[7:].split(":")[0], int(address.rpartition(":")[2])))
        half.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first-key\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        half.close()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=WAIT)[1]
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["status"] for line in lines][:2] == [401, 200]
    assert {line["logger"] for line in lines} == {"serve.requests"}
    assert lines[1]["request_id"] == "mine-1"
    assert (lines[1]["inputs"], lines[1]["path"]) == (1, "/predict")
    assert "private" not in err
    assert "-key" not in err


def test_uvicorn_runs_the_factory(tiny_onnx: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "serve.app:create_app", "--factory", "--port", port],
        cwd=ROOT, env=os.environ | {"TOOLKIT_BUNDLE": str(tiny_onnx)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        assert ask(f"http://127.0.0.1:{port}", "/predict", {"inputs": "a"})[0] == 200
    finally:
        process.kill()
        process.communicate(timeout=WAIT)


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


def test_the_image_passes_hadolint() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_the_server_as_nobody_in_particular() -> None:
    found = instructions((ROOT / "Dockerfile").read_text())
    by_name = dict(found)
    assert re.fullmatch(r"python:3\.1[1-9]-slim", by_name["FROM"])
    assert ("RUN", "pip install .[serve]") in found
    assert int(by_name["USER"]) > 0
    assert "/health" in by_name["HEALTHCHECK"]
    command = json.loads(by_name["CMD"])
    assert command[:4] == ["python", "-m", "serve", "/bundle"]
    assert command[command.index("--port") + 1] == by_name["EXPOSE"]
    copied = {part for name, argument in found if name == "COPY" for part in argument.split()[:-1]}
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
