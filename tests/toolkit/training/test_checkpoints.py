"""Killed at any moment, a command goes on from its last checkpoint, to the same weights bit for bit."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data import rows
from tests.support.paths import ROOT
from tests.support.training import encoded
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation.distill import run_distill
from toolkit.distillation.general import run_general
from toolkit.errors import ToolkitError
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.supervised import SupervisedObjective
from toolkit.training.trainer import StageResult, fit

SCHEDULE = TrainingSchedule(
    epochs=3, lr=5e-3, batch_size=4, warmup=0.1, weight_decay=0.01, seed=3, evaluations=2, accumulation=2
)
OPTIONS = {"lr": 5e-3, "batch_size": 4}


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing in the toolkit catches it."""


def store(tmp_path: Path, every: int | None = 1, inputs: dict[str, str] | None = None, **changes: Any) -> Checkpoints:
    options = {**OPTIONS, "out": str(tmp_path / "out"), "checkpoint_every": every, **changes}
    return Checkpoints(options, inputs or {"train": "a" * 64})


def train(
    tiny_bert: Callable[..., Any], checkpoints: Checkpoints | None, die_at: int | None = None, **changes: Any
) -> tuple[dict[str, torch.Tensor], StageResult, list[int]]:
    """A stage with dropout and a dev metric that rises and falls; the weights, and the rows it was shown."""
    model = tiny_bert(seed=1, hidden_dropout_prob=0.2)
    batch_sizes: list[int] = []

    class Watched(SupervisedObjective):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            if die_at is not None and len(batch_sizes) // 2 == die_at:
                raise Killed
            batch_sizes.append(len(batch["input_ids"]))
            return super().forward(batch)

    def evaluate() -> float:
        return float(sum(value.double().sum() for value in model.state_dict().values()) * 1e3 % 1)

    rows = EncodedDataset(encoded(30), np.arange(30) % 2)
    result = fit(
        Watched(model, "classification"), rows, replace(SCHEDULE, **changes), name="stage", model=model,
        evaluate=evaluate, checkpoints=checkpoints,
    )  # fmt: skip
    return dict(model.state_dict()), result, batch_sizes


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("die_at", "every"), [(3, 5), (7, 1), (11, 5)])
def test_a_stage_goes_on_where_it_was(die_at: int, every: int, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    """Dropout's random state, AdamW's moments, the rate, the order of rows, the best weights so far: all as before.

    Killed before the first checkpoint, at one, and a step after one.
    """
    weights, whole, _ = train(tiny_bert, None)
    with pytest.raises(Killed), store(tmp_path, every) as checkpoints:
        train(tiny_bert, checkpoints, die_at)
    torch.manual_seed(999)
    resumed, result, batch_sizes = train(tiny_bert, store(tmp_path, every))
    assert same(resumed, weights)
    assert asdict(result) | {"seconds": 0} == asdict(whole) | {"seconds": 0}
    assert len(batch_sizes) == 2 * (whole.steps - die_at // every * every)


def test_the_speed_shown_is_that_of_the_whole_run(
    tiny_bert: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, 11)
    _, result, _ = train(tiny_bert, store(tmp_path))
    shown = int(re.findall(r"(\d+) rows/s", capsys.readouterr().out)[-1])
    assert shown == pytest.approx(3 * 30 / result.seconds, rel=0.5)


def test_a_checkpoint_without_its_random_state_is_refused(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    """Accelerate by itself goes on without, and ends elsewhere."""
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, 5)
    (checkpoints.path / "stage-5" / "random_states_0.pkl").unlink()
    with pytest.raises(ToolkitError, match=r"stage-5 is damaged.*random_states_0"):
        train(tiny_bert, store(tmp_path))


def test_a_finished_stage_is_not_run_again(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    weights, whole, _ = train(tiny_bert, store(tmp_path))
    resumed, result, batch_sizes = train(tiny_bert, store(tmp_path))
    assert same(resumed, weights)
    assert (result, batch_sizes) == (whole, [])


def test_what_lies_there_and_when_it_goes(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Killed), store(tmp_path, 3) as checkpoints:
        train(tiny_bert, checkpoints, 8)
    assert {path.name for path in checkpoints.path.iterdir()} == {"command.json", "stage-6"}
    assert json.loads((checkpoints.path / "command.json").read_text())["--lr"] == 5e-3
    with store(tmp_path, 3) as checkpoints:
        train(tiny_bert, checkpoints)
    assert not checkpoints.path.exists()


def test_by_the_clock_a_short_run_writes_none(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Killed), store(tmp_path, None) as checkpoints:
        train(tiny_bert, checkpoints, 11)
    assert not checkpoints.path.exists()


def test_by_the_clock_a_long_one_does(
    tiny_bert: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.training.checkpoints.MIN_INTERVAL_S", 0.0)
    with pytest.raises(Killed), store(tmp_path, None) as checkpoints:
        train(tiny_bert, checkpoints, 11)
    assert checkpoints.last("stage") == checkpoints.path / "stage-10"  # where losses are read, and processes agree


@pytest.mark.parametrize(
    ("changes", "inputs", "difference"),
    [
        ({"lr": 1e-3}, {"train": "a" * 64}, "--lr: 0.005 there, 0.001 here"),
        ({"batch_size": 8}, {"train": "a" * 64}, "--batch-size: 4 there, 8 here"),
        ({}, {"train": "b" * 64}, "train: aaaaaaaaaaaa... there, bbbbbbbbbbbb... here"),
        ({"new": True}, {"train": "a" * 64}, "--new: None there, True here"),
    ],
)
def test_another_command_does_not_go_on_from_them(
    changes: dict[str, Any], inputs: dict[str, str], difference: str, tiny_bert: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, 2)
    with pytest.raises(ToolkitError, match="checkpoints of another command") as caught:
        store(tmp_path, inputs=inputs, **changes)
    assert difference in caught.value.problem
    assert f"rm -r {checkpoints.path}" in caught.value.fix
    assert checkpoints.last("stage") is not None
    store(tmp_path, 7)  # how often checkpoints are written changes nothing
    shutil.rmtree(checkpoints.path / "stage-2")
    store(tmp_path, inputs=inputs, **changes)  # nothing to lose


def test_a_damaged_checkpoint_is_named(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, 2)
    weights = checkpoints.path / "stage-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ToolkitError, match="stage-2 is damaged") as caught:
        train(tiny_bert, store(tmp_path))
    assert "start over: rm -r" in caught.value.fix


class Gadget:
    """An object whose pickle runs code when it is loaded: a checkpoint must not do that."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl"])
def test_a_checkpoint_runs_no_code(name: str, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, 2)
    torch.save({"state": Gadget(tmp_path / "ran")}, checkpoints.path / "stage-2" / name)
    with pytest.raises(ToolkitError, match="stage-2 is damaged"):
        train(tiny_bert, store(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond some bytes: writing then fails as on a full disk, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("first_that_fails", ["model.safetensors", "optimizer.bin"])
def test_a_disk_that_fills_up_costs_no_checkpoint(
    first_that_fails: str, tiny_bert: Callable[..., Any], tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    """Told with a name; the last checkpoint stays, and serves."""
    weights, _, _ = train(tiny_bert, None)
    with pytest.raises(Killed), store(tmp_path, 2) as checkpoints:
        train(tiny_bert, checkpoints, 5)
    small_files((checkpoints.path / "stage-4" / first_that_fails).stat().st_size - 1)
    with pytest.raises(ToolkitError, match="cannot write a checkpoint to") as caught, store(tmp_path, 2) as checkpoints:
        train(tiny_bert, checkpoints)
    assert "goes on from step 4" in caught.value.fix
    assert {path.name for path in checkpoints.path.iterdir()} == {"command.json", "stage-4"}
    small_files(resource.RLIM_INFINITY)
    resumed, _, _ = train(tiny_bert, store(tmp_path, 2))
    assert same(resumed, weights)


def test_a_full_tmpfs(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", full], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        with pytest.raises(ToolkitError, match="cannot write a checkpoint to") as caught, store(full) as checkpoints:
            train(tiny_bert, checkpoints)
        assert "MB are free" in caught.value.expected
        assert {path.name for path in checkpoints.path.iterdir()} <= {"command.json", "stage-1"}
    finally:
        subprocess.run(["umount", "-l", full], check=True)  # the error still holds a file open


def test_patience_ends_a_stage_early(
    tiny_bert: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, whole, _ = train(tiny_bert, None)
    devs = [row for row in whole.history if "selection" in row]
    assert len(devs) == 6
    weights, result, _ = train(tiny_bert, None, patience=1)
    best, ends = 0.0, whole.steps
    for row in devs:
        if row["selection"] <= best:
            ends = int(row["step"])
            break
        best = row["selection"]
    assert (result.steps, result.best_metric) == (ends, best)
    assert ends < whole.steps
    says = f"stage ends at step {ends} of {whole.steps}, by --patience 1: the best, {100 * best:.2f}, is of step"
    said = capsys.readouterr().out
    assert said.count(says) == 1
    assert f"selection {100 * devs[-1]['selection']:.4g} elapsed" in said
    with pytest.raises(Killed), store(tmp_path) as checkpoints:
        train(tiny_bert, checkpoints, ends - 1, patience=1)
    resumed, again, _ = train(tiny_bert, store(tmp_path), patience=1)
    assert same(resumed, weights)
    assert again.steps == ends


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(teacher: Path, data_dir: Path, out: Path) -> dict[str, Any]:
    return {
        "teacher": str(teacher), "task": "auto", "data": str(data_dir), "out": str(out), "student": "2/16/32/4",
        "intermediate_epochs": 6, "intermediate_lr": 5e-3, "prediction_epochs": 6, "prediction_lr": 2e-3,
        "batch_size": 16, "dropout": 0.1, "checkpoint_every": 1,
    }  # fmt: skip


def kill_after(settings: dict[str, Any], stage: str, step: int, delay_s: float) -> None:
    """Run the real command, and end it with SIGKILL some time after it wrote the checkpoint of a step."""
    named = ((f"--{name.replace('_', '-')}", value) for name, value in settings.items())
    flags = [part for name, value in named for part in ((name,) if value is True else (name, str(value)))]
    work = Path(f"{settings['out']}.partial")
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "distill", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT,
    )  # fmt: skip
    while process.poll() is None:
        if any(int(path.name.rpartition("-")[2]) >= step for path in work.glob(f"{stage}-*")):
            time.sleep(delay_s)
            process.kill()
            break
        time.sleep(0.002)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output


def check_kills(tiny_teacher: Path, data_dir: Path, tmp_path: Path, moments: list[tuple[str, int, float]]) -> None:
    settings, whole = (options(tiny_teacher, data_dir, tmp_path / name) for name in ("killed", "whole"))
    run_distill(DistillConfig(**whole | {"checkpoint_every": None}))
    for moment in moments:
        kill_after(settings, *moment)
        assert not Path(settings["out"]).exists()
    run_distill(DistillConfig(**settings))
    resumed, uninterrupted = open_bundle(settings["out"]).manifest, open_bundle(whole["out"]).manifest
    trained = resumed["files"].keys() - {"report.html", "report.json"}  # those tell how long it took
    assert {name: resumed["files"][name] for name in trained} == {
        name: uninterrupted["files"][name] for name in trained
    }
    assert "model.safetensors" in trained
    assert [row for stage in resumed["stages"].values() for row in stage["history"]] == [
        row for stage in uninterrupted["stages"].values() for row in stage["history"]
    ]
    assert resumed["metrics"] == uninterrupted["metrics"]
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "killed"}


@pytest.mark.usefixtures("one_thread")
def test_a_killed_command_ends_with_the_same_student(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    check_kills(tiny_teacher, data_dir, tmp_path, [("prediction", 10, 0.0)])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_five_kills_at_random_moments(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    draw = random.Random(7)
    steps = sorted(draw.sample(range(2, 150), 5))  # 96 steps of stage a, then 96 of stage b
    moments = [
        ("intermediate", step, draw.random() / 50) if step <= 90 else ("prediction", step - 90, draw.random() / 50)
        for step in steps
    ]
    check_kills(tiny_teacher, data_dir, tmp_path, moments)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_five_kills_of_general_distillation(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "text.txt"
    corpus.write_text("".join(f"{text}\n" for text, _ in rows(400, seed=5)))
    shared = {
        "general": True, "teacher": str(tiny_teacher), "corpus": str(corpus), "student": "2/16/32/4",
        "intermediate_epochs": 6, "intermediate_lr": 5e-3, "max_length": 16, "batch_size": 8, "accumulation": 2,
        "dropout": 0.1,
    }  # fmt: skip
    made = {}
    for name in ("whole", "killed"):
        settings, draw = shared | {"out": str(tmp_path / name), "checkpoint_every": 1}, random.Random(11)
        for step in sorted(draw.sample(range(2, 80), 5)) if name == "killed" else ():
            kill_after(settings, "general", step, draw.random() / 50)
            assert not Path(settings["out"]).exists()
        run_general(DistillConfig(**settings | {"task": None, "corpus": (str(corpus),)}))
        made[name] = open_bundle(tmp_path / name).manifest
    steps = made["whole"]["stages"]["general"]["steps"]
    assert steps > 80, "some of the moments lie behind the end"
    assert made["killed"]["stages"]["general"]["history"] == made["whole"]["stages"]["general"]["history"]
    for name in ("model.safetensors", "projections.safetensors"):
        assert made["killed"]["files"][name] == made["whole"]["files"][name]
