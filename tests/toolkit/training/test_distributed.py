"""Several processes, or several batches a step, move the weights as one process with one large batch does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.paths import ROOT
from tests.support.training import SCHEDULE, encoded, intermediate
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import LAYER_LOSSES, DistillConfig
from toolkit.distillation.distill import run_distill
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.errors import ToolkitError
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import accelerator, model_logits
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.supervised import SupervisedObjective
from toolkit.training.trainer import StageTrainer, fit


def options(tiny_teacher: Path, data_dir: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "teacher": str(tiny_teacher), "task": "auto", "data": str(data_dir), "out": str(out), "student": "2/16/32/4",
        "intermediate_epochs": 4, "intermediate_lr": 5e-3, "prediction_epochs": 3, "prediction_lr": 2e-3,
        "max_rows": 250, "precision": "fp32",
    }  # fmt: skip
    return settings | changes


def torchrun(settings: dict[str, Any]) -> subprocess.Popen[str]:
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, "-m", "toolkit", "distill", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return stdout and stderr of a process that must have ended well."""
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
    return output, errors


def assert_same_curve(left: Bundle, right: Bundle) -> None:
    for name, stage in left.manifest["stages"].items():
        other = right.manifest["stages"][name]
        assert len(stage["history"]) == len(other["history"]) > 1
        for row, other_row in zip(stage["history"], other["history"], strict=True):
            assert row == pytest.approx(other_row, abs=1e-4)
        assert other["best_step"] == stage["best_step"]
    weights, other_weights = (load_file(bundle.path / "model.safetensors") for bundle in (left, right))
    for key, value in weights.items():
        torch.testing.assert_close(other_weights[key], value, atol=1e-3, rtol=1e-3)


def test_two_processes_learn_what_one_does(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    """Student and projections synchronised, each row once an epoch, dev shared, one writer, one voice."""
    whole = run_distill(DistillConfig(**options(tiny_teacher, data_dir, tmp_path / "one", batch_size=32)))
    process = torchrun(options(tiny_teacher, data_dir, tmp_path / "two", batch_size=8, accumulation=2))
    output, errors = finished(process)
    assert_same_curve(whole, open_bundle(tmp_path / "two"))
    said = ("wrote ", f"distilling {data_dir.name} (2 classes: negative, positive):", "dev accuracy: teacher")
    assert [output.count(words) for words in said] == [1, 1, 1]
    assert "find_unused_parameters" not in errors
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


@pytest.mark.slow
def test_two_killed_processes_go_on(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    settings = options(tiny_teacher, data_dir, tmp_path / "two", batch_size=16, checkpoint_every=1, dropout=0.1)
    finished(torchrun(settings | {"out": str(tmp_path / "whole")}))
    process = torchrun(settings)
    while process.poll() is None and not list((tmp_path / "two.partial").glob("prediction-*")):
        time.sleep(0.002)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, workers)):  # torchrun's workers would outlive it
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    with pytest.raises(ToolkitError, match="processes: 2 there, 1 here"):
        run_distill(DistillConfig(**settings))
    finished(torchrun(settings))
    resumed, whole = (open_bundle(tmp_path / name).manifest["files"]["model.safetensors"] for name in ("two", "whole"))
    assert resumed == whole


@pytest.mark.slow
def test_a_mistake_is_told_once(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    process = torchrun(options(tiny_teacher, data_dir, tmp_path / "out", student="2/15/32/4"))
    _, errors = process.communicate()
    assert process.returncode
    assert errors.count("cannot be built") == 1


class TestAccumulation:
    """In one process, where exactness can be seen without a launcher."""

    def learn(self, tiny_bert: Callable[..., Any], batch_size: int, accumulation: int) -> tuple[Any, Any]:
        objective = intermediate(tiny_bert)
        schedule = TrainingSchedule(
            epochs=3, lr=1e-2, batch_size=batch_size, warmup=0.1, weight_decay=0.01, seed=0, accumulation=accumulation
        )
        result = fit(objective, EncodedDataset(encoded(50)), schedule, name="t", model=objective.student, evaluate=None)
        return objective.state_dict(), result

    def test_it_is_one_large_batch(self, tiny_bert: Callable[..., Any]) -> None:
        """Parts of a step hold unlike numbers of tokens, and the last step is not full: averages must weigh so."""
        weights, whole = self.learn(tiny_bert, 12, 1)
        accumulated, result = self.learn(tiny_bert, 3, 4)
        assert result.steps == whole.steps == 15
        assert asdict(result)["history"] == [pytest.approx(row, abs=1e-6) for row in whole.history]
        for name, value in weights.items():
            torch.testing.assert_close(accumulated[name], value, atol=1e-5, rtol=1e-4)

    def test_plain_averages_would_not_do(self, tiny_bert: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """The control: with every part weighing by its rows alone, the weights end elsewhere."""
        weights, _ = self.learn(tiny_bert, 12, 1)
        monkeypatch.setattr(IntermediateObjective, "averaged_over", dict.fromkeys(LAYER_LOSSES, "rows"))
        accumulated, _ = self.learn(tiny_bert, 3, 4)
        assert max(float((accumulated[name] - value).abs().max()) for name, value in weights.items()) > 1e-3


def test_sharded_logits_are_those_of_the_model(tiny_bert: Callable[..., Any]) -> None:
    model, rows = tiny_bert(seed=3), encoded(150)
    logits = model_logits(model, rows)
    with torch.no_grad():
        alone = [model(torch.from_numpy(ids)[None]).logits[0].numpy() for ids in rows.ids]
    np.testing.assert_allclose(logits, np.array(alone), atol=1e-5)


def test_stages_share_an_accelerator_and_not_their_models(tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    """A checkpoint of the second stage holds its own objective alone, also after a first stage that failed."""

    class Failing(SupervisedObjective):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            raise ZeroDivisionError

    before, dataset = accelerator(), EncodedDataset(encoded(8), np.arange(8) % 2)
    with pytest.raises(ZeroDivisionError):
        fit(Failing(model := tiny_bert(), "classification"), dataset, SCHEDULE, name="a", model=model, evaluate=None)
    checkpoints = Checkpoints({"out": str(tmp_path / "out"), "checkpoint_every": 1}, {})
    objective = SupervisedObjective(tiny_bert(num_hidden_layers=1), "classification")
    trainer = StageTrainer(objective, dataset, SCHEDULE, "b", objective.model, checkpoints)
    trainer.step(next(trainer.batches.remaining_steps(0)))
    trainer.save_checkpoint()
    names = {path.name for path in (tmp_path / "out.partial" / "b-1").iterdir()}
    assert names == {"model.safetensors", "optimizer.bin", "random_states_0.pkl", "progress.json"}
    assert load_file(tmp_path / "out.partial" / "b-1" / "model.safetensors").keys() == objective.state_dict().keys()
    assert accelerator() is trainer.accelerator is before
