"""A search on a Ray cluster trains the students of one without, whatever dies on its way."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import refused, toolkit
from tests.toolkit.compression.test_compress import frontier, own_cache, results  # noqa: F401
from tests.toolkit.compression.test_search import PROMISING, SHORT, WHOLE, Known, plan
from toolkit.benchmarking.random_models import torch_threads
from toolkit.bundle.provenance import origin
from toolkit.compression import trainings
from toolkit.compression.cluster import ClusterSearch, DeathError, Work, room_on
from toolkit.compression.trainings import RETRIES, Epochs
from toolkit.config import DistillConfig
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape

KILL_EVERY_S = 0.01


@pytest.fixture
def command(tiny_teacher: Path, data_dir: Path) -> tuple[str | Path, ...]:
    return "compress", tiny_teacher, "--task", "auto", "--data", data_dir, "--max-latency-ms", "50", "--out"


def work(out: Path, teacher: Path, token: str = "token") -> Work:
    return Work(Path.cwd(), out, token, origin(str(teacher)), None, 1)


def test_a_machine_has_room_for_what_its_scarcest_resource_holds() -> None:
    assert room_on({"CPU": 16.0, "GPU": 2.0}, {"CPU": 4, "GPU": 0}) == 4
    assert room_on({"CPU": 16.0, "GPU": 2.0}, {"CPU": 4, "GPU": 1}) == 2
    assert room_on({"CPU": 3.5}, {"CPU": 4, "GPU": 0}) == room_on({"CPU": 4.0}, {"CPU": 4, "GPU": 1}) == 0


def test_a_machine_that_does_not_see_the_folder_or_has_another_teacher_is_named(
    tiny_teacher: Path, tiny_student: Path, data_dir: Path, tmp_path: Path
) -> None:
    options = DistillConfig(str(tiny_teacher), "auto", str(tmp_path / "student"), data=str(data_dir))
    machine = re.escape(os.uname().nodename)
    with pytest.raises(ToolkitError, match=f"{machine} does not see {tmp_path}, the folder of the search"):
        work(tmp_path, tiny_teacher).train("one", options)
    (tmp_path / "search.log").write_text("the token of another command")
    with pytest.raises(ToolkitError, match=f"{machine} does not see"):
        work(tmp_path, tiny_teacher, "mine").train("one", options)
    with pytest.raises(ToolkitError, match=f"{re.escape(str(tiny_teacher))} on {machine} is another model than here"):
        work(tmp_path, tiny_student).train("one", options)


def test_a_cluster_that_does_not_answer_is_refused_before_anything_is_done(
    command: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(toolkit(*command, tmp_path / "search", "--ray", "127.0.0.1:1"))
    assert "--ray 127.0.0.1:1: [Errno 111] Connection refused\nexpected: HOST:PORT of a cluster, auto or " in message
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    message = refused(toolkit(*command, tmp_path / "search", "--ray", "local"))
    assert "--ray needs ray, which this Python does not have\ntry: pip install 'tinybert-toolkit[ray]'" in message
    assert list(tmp_path.iterdir()) == []


class KnownMachines:
    """Machines that end the training first that began last, and on which some die."""

    def __init__(self, rooms: int, *, elsewhere: bool, deaths: Sequence[str] = ()) -> None:
        self.rooms, self.elsewhere, self.deaths = rooms, elsewhere, deaths
        self.began, self.most = list[str](), 0

    def room(self) -> int:
        return self.rooms

    def begin(self, title: str, options: DistillConfig) -> str:
        self.began.append(title)
        return title

    def ended(self, tasks: list[str], *, wait: bool) -> list[str]:
        self.most = max(self.most, len(tasks))
        return tasks[-1:] if wait else []

    def seconds(self, title: str, task: str) -> float:
        if title in self.deaths:
            raise DeathError(f"{title}: its worker died 2 times")
        return 1.0


class KnownCluster(Known, ClusterSearch):
    """A search on known machines, whose students have known scores."""

    def __init__(self, out: Path, machines: KnownMachines, **options: Any) -> None:
        self.known = machines
        super().__init__(out, dict(zip(PROMISING, (70.0, 60.0, 80.0, 75.0), strict=True)), **options)

    def _machines(self) -> Any:
        return self.known

    def opened(self, title: str, options: DistillConfig, shape: Shape, epochs: Epochs, seconds: float) -> Any:
        return Known.train(self, shape, epochs)

    def told(self) -> list[tuple[Shape, Epochs, bool]]:
        """Train the candidates; give what the listener heard, and whether a graph could be timed then."""
        heard = list[tuple[Shape, Epochs, bool]]()
        self.train_candidates(plan(), lambda shape, epochs: heard.append((shape, epochs, self.quiet)))
        return heard


@pytest.mark.parametrize("elsewhere", [True, False])
def test_results_decide_as_they_come_in_and_graphs_are_timed_where_nothing_trains(
    tmp_path: Path, elsewhere: bool
) -> None:
    search = KnownCluster(tmp_path, KnownMachines(2, elsewhere=elsewhere))
    heard = search.told()
    first, second, third, fourth = PROMISING
    # the second has no rival when it comes in, the third is better, the fourth worse than that, the first comes last
    order = [(second, SHORT), (second, WHOLE), (third, SHORT), (third, WHOLE), (fourth, SHORT), (first, SHORT)]
    assert search.trained == [(shape, epochs) for shape, epochs, _ in heard] == order
    assert search.known.most == 2
    assert [quiet for *_, quiet in heard] == [elsewhere] * 5 + [True]
    assert set(search.students) == set(order)


def test_a_training_whose_workers_die_is_left_to_the_next_command(tmp_path: Path) -> None:
    _, second, *_ = PROMISING
    search = KnownCluster(tmp_path, KnownMachines(2, elsewhere=True, deaths=[f"{second}, 1 + 1 epochs"]))
    assert second not in [shape for shape, *_ in search.told()]
    assert search.known.began[:2] == [f"{shape}, 1 + 1 epochs" for shape in PROMISING[:2]]
    again = KnownCluster(tmp_path, KnownMachines(2, elsewhere=True))
    again.told()
    assert again.known.began == [f"{second}, 1 + 1 epochs"], "its rivals are better"


def test_nothing_begins_on_a_cluster_for_which_no_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = KnownCluster(tmp_path, KnownMachines(2, elsewhere=True), hours=1.0)
    ended = search.known.ended

    def late(tasks: list[str], *, wait: bool) -> list[str]:
        search._earlier = 3601.0
        return ended(tasks, wait=wait)

    monkeypatch.setattr(search.known, "ended", late)
    search.told()
    assert search.trained == [(PROMISING[1], SHORT), (PROMISING[0], SHORT)], "what runs is not cut off"


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def killing(deaths: dict[str, int]) -> Iterator[Counter[str]]:
    """Kill the worker of each training so many times; count the deaths by the training's title."""
    died, end = Counter[str](), threading.Event()

    def kill() -> None:
        while not end.wait(KILL_EVERY_S):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    title = (process / "cmdline").read_text().removeprefix("ray::").split("\0")[0]
                    if died[title] < deaths.get(title, 0):
                        os.kill(int(process.name), signal.SIGKILL)
                        died[title] += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield died
    finally:
        end.set()
        thread.join()


@pytest.mark.slow  # Ray takes ten processes and as many seconds to start
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_trains_the_students_of_one_machine_though_workers_die(
    command: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's workers give way to whatever else runs
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "run_distill", interrupted)
        assert toolkit(*command, tmp_path / "one").returncode == 130, "all starts are kept, no training has begun"
    shutil.copytree(tmp_path / "one", tmp_path / "many")
    with torch_threads(1):
        assert toolkit(*command, tmp_path / "one").returncode == 0
    first, second, third = (f"{shape}, 1 + 1 epochs" for shape in ("3/24/48/4", "3/16/48/4", "2/24/48/4"))
    on_cluster = (*command, tmp_path / "many", "--ray", "local", "--ray-cpus", "1")
    with killing({first: RETRIES, third: RETRIES + 1}) as deaths:
        result = toolkit(*on_cluster)
    assert result.returncode == 0, result.stderr
    assert deaths == {first: 1, third: 2}
    assert f"{third}: its worker died 2 times: " in result.stdout
    lines = result.stdout.splitlines()
    assert lines.index(f"== {second}, on the cluster") == lines.index(f"== {first}, on the cluster") + 1
    last = max(number for number, line in enumerate(lines) if line.endswith("on the cluster"))
    assert min(number for number, line in enumerate(lines) if line.endswith("epochs, int8")) > last, "it was quiet"
    one, many = results(tmp_path / "one"), results(tmp_path / "many")
    assert one.keys() - many.keys() == {"2-24-48-4/epochs-1-1", "2-24-48-4/epochs-1-1-int8"}
    again = toolkit(*on_cluster)
    assert again.returncode == 0, again.stderr
    assert [line for line in again.stdout.splitlines() if line.endswith("on the cluster")] == [
        f"== {third}, on the cluster"
    ]
    assert results(tmp_path / "many") == one
    assert {(point["name"], point["dev"], point["size_mb"]) for point in frontier(tmp_path / "many")} == {
        (point["name"], point["dev"], point["size_mb"]) for point in frontier(tmp_path / "one")
    }
