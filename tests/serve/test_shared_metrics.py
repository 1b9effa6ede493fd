"""Processes that take the place of dead ones, played by one process that lets go of its locks."""

from __future__ import annotations

import os
import tempfile
from fcntl import LOCK_SH, flock
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import SHARED_VARIABLE, Metrics
from serve.shared_metrics import LOCK, PREFIX, forget_dead_processes, shared_metrics, take_place


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    return tmp_path


def start(counted: int, held: int) -> tuple[int, Metrics]:
    """A process that counts requests and holds inputs."""
    place, metrics = take_place(), Metrics()
    metrics.requests["single"].inc(counted)
    metrics.queue_size.set(held)
    metrics.batch_size.labels("int8").observe(counted)
    return place, metrics


def kill(place: int) -> None:
    file = f"{os.environ[SHARED_VARIABLE]}/{place}{LOCK}"
    (descriptor,) = (int(fd) for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == file)
    os.close(descriptor)


def shown(metrics: Metrics) -> dict[str, float]:
    samples = [
        sample for family in text_string_to_metric_families(metrics.render().decode()) for sample in family.samples
    ]
    names = {"te_request_count_total", "te_queue_size", "te_batch_next_size_sum", "te_batch_next_size_count"}
    return {sample.name: sample.value for sample in samples if sample.name in names and sample.value}


def test_counts_of_dead_processes_go_on_in_the_files_of_their_place() -> None:
    with shared_metrics():
        first, metrics = start(counted=3, held=7)
        second, _ = start(counted=2, held=1)
        assert (first, second) == (0, 1)
        assert shown(metrics)["te_queue_size"] == 8
        kill(second)
        forget_dead_processes()
        both = {"te_request_count_total": 5, "te_batch_next_size_sum": 5, "te_batch_next_size_count": 2}
        assert shown(metrics) == both | {"te_queue_size": 7}, "what it counted stays, what it held is gone"
        before = sorted(os.listdir(os.environ[SHARED_VARIABLE]))
        for generation in range(1, 4):
            place, _ = start(counted=10, held=0)
            assert place == second
            assert shown(metrics)["te_request_count_total"] == 5 + 10 * generation
            assert shown(metrics)["te_batch_next_size_count"] == 2 + generation
            kill(place)
        forget_dead_processes()
        assert sorted(os.listdir(os.environ[SHARED_VARIABLE])) == before
        assert shown(metrics)["te_queue_size"] == 7, "the living one holds what it held"
        kill(first)


def test_what_killed_servers_left_behind_goes_and_what_is_in_use_stays(temporary: Path) -> None:
    left, used, other = temporary / f"{PREFIX}left", temporary / f"{PREFIX}used", temporary / "of-another-program"
    for folder in (left, used, other):
        folder.mkdir()
        (folder / "counter_0.db").touch()
        os.utime(folder, (0, 0))
    new = Path(tempfile.mkdtemp(prefix=PREFIX))
    descriptor = os.open(used, os.O_RDONLY)
    flock(descriptor, LOCK_SH)
    with shared_metrics():
        own = Path(os.environ[SHARED_VARIABLE])
        assert set(temporary.iterdir()) == {used, new, other, own}
    os.close(descriptor)
    assert set(temporary.iterdir()) == {used, new, other}
