"""Several processes on one port are one server: they count together, lose only what a dead one held, stop together."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import values
from tokenizers import Tokenizer

from benchmarks.serving.load import Load
from serve import supervisor
from serve.log_format import JsonFormatter
from serve.shared_metrics import shared_metrics
from serve.supervisor import HUNG_SECONDS, LOADING_SECONDS, Supervisor, open_bundles, worker_app
from tests.support.arithmetic_bundles import save_arithmetic, slow_graph
from tests.support.responses import log_lines
from tests.support.server import WAIT, ask, exit_of, serving, until
from toolkit.benchmarking.server.http_client import Address, Connection, post
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor

TWO = ("--processes", "2", "--port", "0", "--log-format", "none")
CONNECTIONS = 16
WAITING = 10  # requests that outlast the instant in which both processes close their port


def children(process: subprocess.Popen[str]) -> set[int]:
    """Server processes; multiprocessing's own resource tracker is none."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


def address_of(url: str) -> Address:
    host, _, port = url.removeprefix("http://").partition(":")
    return Address(host, int(port))


async def load_until(address: Address, request: bytes, over: asyncio.Event) -> Load:
    """Requests on several connections, each renewed when it ends, until the event."""
    load = Load()

    async def work() -> None:
        connection = await Connection.open(address)
        while not over.is_set():
            if connection.closed:
                connection = await Connection.open(address)
            load.replies[len(load.replies)] = await connection.ask(request)
        connection.close()

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(CONNECTIONS))), WAIT)
    return load


def test_a_killed_process_is_replaced_and_takes_only_its_own_requests_with_it(tiny_onnx: Path) -> None:
    best = open_predictor(tiny_onnx, threads=1).predict(["good film"])[0].max()

    with serving("-m", "serve", str(tiny_onnx), *TWO) as (process, url):
        address, first = address_of(url), children(process)
        assert len(first) == 2
        loaded = {pid: "onnxruntime" in Path(f"/proc/{pid}/maps").read_text() for pid in (process.pid, *first)}
        assert loaded == {process.pid: False} | dict.fromkeys(first, True), "memory is that of the processes alone"

        async def kill_one_under_load() -> Load:
            over = asyncio.Event()
            working = asyncio.create_task(load_until(address, post({"inputs": "good film"}), over))
            await asyncio.sleep(0.3)
            os.kill(min(first), signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda: len(children(process) - first) == 1)
            (new,) = children(process) - first
            await asyncio.to_thread(wait_for, lambda: sockets(new) > 3)
            over.set()
            return await working

        load = asyncio.run(kill_one_under_load())
        lost = load.count(0)
        assert load.count(200) + lost == len(load.replies)
        assert lost <= CONNECTIONS
        assert load.count(200) > CONNECTIONS
        scores = {json.loads(reply.body)[0]["score"] for reply in load.replies.values() if reply.status == 200}
        assert sorted(scores) == pytest.approx([best] * len(scores), abs=1e-6)
        # the dead one's answers still count; what it held when it died was counted as come in and nothing else
        answered = address.metric("te_request_success")
        assert load.count(200) <= answered <= len(load.replies)
        assert address.metric("te_queue_size") == 0
        pids = children(process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out) == (0, "")
        assert err.splitlines() == [f"{err[:8]} WARNING server process {min(first)} ended; another one takes its place"]
        assert all(map(gone, pids))


def sockets(pid: int) -> int:
    """Count the sockets that a process has open: its listening one, its event loop's own pair, and its connections."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(link).startswith("socket:")
        except OSError:
            continue
    return count


def test_sigterm_lets_every_process_answer_what_it_accepted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    slow = save_arithmetic(tmp_path / "slow", tokenizer, slow_graph(500))  # about half a second a batch
    options = ("--workers", "1", "--max-batch-requests", "1", *TWO)
    with serving("-m", "serve", str(slow), *options) as (process, url):
        address = address_of(url)

        async def stop_under_load() -> list[tuple[int, bytes]]:
            connections = [await Connection.open(address) for _ in range(6)]
            asked = [asyncio.create_task(connection.ask(post({"inputs": "a"}))) for connection in connections]
            await asyncio.to_thread(until, url, r'^te_request_count{method="single"} 6\.0$')
            process.send_signal(signal.SIGTERM)
            replies = await asyncio.wait_for(asyncio.gather(*asked), WAIT)
            for connection in connections:
                connection.close()
            return [(reply.status, reply.body) for reply in replies]

        assert asyncio.run(stop_under_load()) == [(200, b'[{"score":10.0,"label":"score"}]')] * 6
        out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out, err) == (0, "", "")


def test_connections_that_come_during_the_drain_are_refused_at_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    slow = save_arithmetic(tmp_path / "slow", tokenizer, slow_graph(250))  # about a quarter of a second a batch
    options = ("--workers", "1", "--max-batch-requests", "1", *TWO)
    with serving("-m", "serve", str(slow), *options) as (process, url):
        address = address_of(url)

        async def stop_and_connect() -> list[int]:
            running = [await Connection.open(address) for _ in range(WAITING)]
            answers = [asyncio.create_task(connection.ask(post({"inputs": "a"}))) for connection in running]
            await asyncio.to_thread(until, url, rf'^te_request_count{{method="single"}} {WAITING}\.0$')
            process.send_signal(signal.SIGTERM)
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                while True:  # both processes close their port within an instant
                    (await asyncio.wait_for(Connection.open(address), 5)).close()
                    await asyncio.sleep(0.05)
            assert not all(answer.done() for answer in answers), "the test needs a request that still runs"
            return [(await answer).status for answer in answers]

        assert asyncio.run(asyncio.wait_for(stop_and_connect(), WAIT)) == [200] * WAITING


def test_sighup_renews_the_processes_one_after_the_other(tiny_onnx: Path, tmp_path: Path) -> None:
    with serving("-m", "serve", str(tiny_onnx), *TWO, TMPDIR=str(tmp_path)) as (process, url):
        first = children(process)
        assert ask(url, "/predict", {"inputs": "good film"})[0] == 200
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(children(process)) == 2 and not children(process) & first)
        assert ask(url, "/predict", {"inputs": "good film"})[0] == 200
        until(url, r'^te_request_success{method="single"} 2\.0$')
        files = [path.name for path in tmp_path.glob("*/counter_*.db")]
        assert sorted(files) == ["counter_0.db", "counter_1.db", "counter_2.db"], "three ran at a time, four in all"


def test_a_renewed_process_may_load_for_longer_than_a_hung_one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    supervisor, allowed = Supervisor(uvicorn.Config("", timeout_worker_healthcheck=HUNG_SECONDS), [], ""), list[int]()
    monkeypatch.setattr(supervisor, "restart_all", lambda: allowed.append(supervisor.config.timeout_worker_healthcheck))
    supervisor.handle_hup()
    assert (allowed, supervisor.config.timeout_worker_healthcheck) == ([LOADING_SECONDS], HUNG_SECONDS)


def test_the_processes_end_when_their_supervisor_is_killed(tiny_onnx: Path) -> None:
    with serving("-m", "serve", str(tiny_onnx), *TWO) as (process, _):
        pids = children(process)
        process.kill()
        wait_for(lambda: all(map(gone, pids)))


def test_a_process_that_cannot_load_its_bundle_says_so_in_words(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = ServeConfig((str(tiny_student),))
    assert list(open_bundles(config)) == ["student"]
    with shared_metrics(), log_lines(JsonFormatter()) as lines:
        monkeypatch.setattr(supervisor, "configure", lambda _: None)
        with pytest.raises(SystemExit) as ended:
            worker_app(config)
    assert ended.value.code == 2
    assert "the server runs ONNX only" in json.loads(lines[0])["message"]
    with pytest.raises(ToolkitError, match="max_batch_tokens 8: expected at least max_length"):
        open_bundles(ServeConfig((str(tiny_student),), max_batch_tokens=8))


def test_no_process_is_no_server(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = exit_of(capsys, str(tiny_onnx), "--processes", "0")
    assert code == 2
    assert "--processes 0: expected 1 or more" in shown
    code, shown = exit_of(capsys, str(tiny_onnx), "--processes", "2", "--models-root", ".")
    assert code == 2
    assert "SIGHUP" in shown
