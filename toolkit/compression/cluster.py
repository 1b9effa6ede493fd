"""A search whose trainings run on a Ray cluster, several at the same time.

Each is a task of Ray with CPUs of its own, on a machine that sees the folder of the search. Where its worker dies Ray
starts it again, and it goes on from its checkpoints. This process tells Optuna each result as it comes in, exports and
times. A latency is that of the machine that gives the command, on which no training runs meanwhile: they run on other
machines where there are any; where there are none, exports wait until no training runs.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import torch

from toolkit.benchmarking.random_models import torch_threads
from toolkit.bundle.format import Bundle
from toolkit.bundle.manifest import Origin
from toolkit.bundle.provenance import origin
from toolkit.compression.material import Material
from toolkit.compression.search import ANSWERS, STORE, Search, dev_score
from toolkit.compression.trainings import RETRIES, Epochs, describe, train_or_reuse
from toolkit.config import CompressConfig, DistillConfig
from toolkit.console import echo
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape
from toolkit.scoring.cluster import cluster_error, other_model
from toolkit.training.distributed import distributed_state

PAUSE_S = 30.0  # between looks at the machines while no training ends
NODE = "ray.io/node-id"  # Ray's label of a machine


@dataclass(frozen=True)
class Work:
    """What the machines of a cluster are told.

    Attributes:
        place: the folder in which the command was given; paths of its options may begin there.
        out: the folder of the search.
        token: stands in the search's journal.
        teacher: as the machine has it that gave the command.
        parent: the teacher, if it is a bundle.
        threads: of a training.
    """

    place: Path
    out: Path
    token: str
    teacher: Origin
    parent: Bundle | None
    threads: int

    def train(self, title: str, options: DistillConfig) -> float:
        """Train a student on the machine that this runs on; return the seconds that it took.

        Raises:
            ToolkitError: the machine does not see the folder, has another teacher, or as `run_distill`.
        """
        with chdir(self.place) if self.place.is_dir() else nullcontext(), torch_threads(self.threads):
            journal = self.out / STORE
            if not journal.is_file() or self.token.encode() not in journal.read_bytes():
                raise ToolkitError(
                    f"{os.uname().nodename} does not see {self.out}, the folder of the search",
                    expected="a folder that all machines of the cluster share, at the same path",
                    fix="--out on a shared disk",
                )
            if origin(str(options.teacher)) != self.teacher:
                raise other_model(str(options.teacher))
            return train_or_reuse(title, options, self.out / ANSWERS, self.parent)


class DeathError(ToolkitError):
    """The workers of a training died."""


class Machines:
    """The machines of the Ray cluster that this process has joined.

    Args:
        work: what they are told.

    Attributes:
        elsewhere: whether trainings run on other machines than this one.

    Raises:
        ToolkitError: no machine has the CPUs of a training, at first or any more.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.needs = {"CPU": work.threads, "GPU": int(distributed_state().device.type == "cuda")}
        self.here = ray.get_runtime_context().get_node_id()
        self.elsewhere = True
        self.elsewhere = self._places() > 0
        self.room()

    def room(self) -> int:
        """Give how many trainings can run at the same time; where there is none, Ray would wait for ever."""
        if not (places := self._places()):
            raise ToolkitError(
                f"no machine of the cluster has what a training takes: --ray-cpus {self.work.threads}"
                f"{' and a GPU' * self.needs['GPU']}",
                fix="a lower --ray-cpus, or the same command when there is such a machine",
            )
        return places

    def _places(self) -> int:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        machines = [node for node in nodes if node["Alive"] and (node["NodeID"] != self.here) == self.elsewhere]
        return sum(room_on(machine["Resources"], self.needs) for machine in machines)

    def begin(self, title: str, options: DistillConfig) -> Any:
        """Begin a training as soon as a machine is free; give Ray's name of it."""
        echo(f"== {title}, on the cluster")
        machine = {NODE: f"!{self.here}" if self.elsewhere else self.here}
        cpus, gpus = self.needs["CPU"], self.needs["GPU"]
        task = ray.remote(Work.train).options(
            name=title, num_cpus=cpus, num_gpus=gpus, label_selector=machine, max_retries=RETRIES
        )
        return task.remote(self.work, title, options)

    def ended(self, tasks: list[Any], *, wait: bool) -> list[Any]:
        """Give a training that has ended; none where there are none, or none has and this is not to wait."""
        while tasks:
            ended, _ = ray.wait(tasks, timeout=PAUSE_S if wait else 0)
            if ended or not wait:
                return ended
            self.room()
        return []

    def seconds(self, title: str, task: Any) -> float:
        """Give the seconds that a training took which has ended.

        Raises:
            DeathError: its workers died.
            ToolkitError: as `Work.train`.
        """
        try:
            return float(ray.get(task))
        except ray.exceptions.RayTaskError as error:
            raise cluster_error(error) from None
        except ray.exceptions.RayError as error:
            raise DeathError(
                f"{title}: its worker died {1 + RETRIES} times: {str(error).strip().partition(chr(10))[0]}",
                fix="the same command goes on from its last checkpoint",
            ) from None


class ClusterSearch(Search):
    """A search on the Ray cluster that this process has joined; raises as Search and Machines do."""

    def __init__(self, config: CompressConfig, material: Material) -> None:
        super().__init__(config, material)
        self.machines, self.running = self._machines(), dict[Any, tuple[str, optuna.Trial, Shape, Epochs]]()

    def _machines(self) -> Machines:
        self.remember("cluster", token := uuid.uuid4().hex)
        threads = self.config.ray_cpus or torch.get_num_threads()
        return Machines(Work(Path.cwd(), self.out, token, origin(self.config.teacher), self.parent, threads))

    def _run(self, trials: Iterator[tuple[optuna.Trial, Shape]], trained: Callable[[Shape, Epochs], None]) -> bool:
        """Take trials from rung to rung, as many at the same time as there is room for.

        Optuna decides on each result as it comes in, and machines get work before students are exported.
        """
        waiting, in_time = deque[tuple[Shape, Epochs]](), True
        while True:
            while in_time and len(self.running) < self.machines.room() and (pair := next(trials, None)):
                in_time = self._begin(*pair)
            ended = self.machines.ended(list(self.running), wait=not waiting)
            for task in ended:
                title, trial, shape, epochs = self.running.pop(task)
                try:
                    seconds = self.machines.seconds(title, task)
                except DeathError as error:  # the trial stays open: the next command tries again
                    echo(f"{error.problem}; the search goes on without it")
                    continue
                bundle = self.opened(title, self.training_of(shape, epochs), shape, epochs, seconds)
                self.report(trial, epochs, dev_score(bundle.manifest))
                waiting.append((shape, epochs))
                in_time = self._begin(trial, shape) and in_time
            self.quiet = self.machines.elsewhere or not self.running
            if not ended and waiting:
                trained(*waiting.popleft())
            elif not self.running and not waiting:
                return in_time

    def _begin(self, trial: optuna.Trial, shape: Shape) -> bool:
        """Begin what a trial trains next, if it does; return False where time is up before."""
        epochs = self.next_training(trial, shape)
        if epochs is None:
            return True
        if not self.has_time_to_try(shape, epochs):
            return False
        title = f"{shape}, {describe(epochs)}"
        self.running[self.machines.begin(title, self.training_of(shape, epochs))] = title, trial, shape, epochs
        return True

    def _train(self, title: str, options: DistillConfig) -> float:
        task = self.machines.begin(title, options)
        self.machines.ended([task], wait=True)
        return self.machines.seconds(title, task)


def room_on(resources: Mapping[str, float], needs: Mapping[str, int]) -> int:
    """Count the trainings that a machine can run at the same time, by what it has and what each needs."""
    return min(int(resources.get(name, 0) // number) for name, number in needs.items() if number)
