"""Steps of both stages on a device: every precision learns, a resumed stage is the same, the host does not wait."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training import SCHEDULE, encoded, intermediate
from toolkit.distillation.data import teacher_logits_dataset
from toolkit.distillation.objectives import PredictionObjective
from toolkit.errors import ToolkitError
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.trainer import Objective, StageTrainer, fit

# where transformers asks the GPU whether a mask has padding, once a forward pass
ALLOWED_WAITS = {"masking_utils.py", "modeling_attn_mask_utils.py"}
SHORT = replace(SCHEDULE, lr=5e-3)


def stage(name: str, tiny_bert: Callable[..., Any], rows: int = 24) -> tuple[Objective, EncodedDataset]:
    texts = encoded(rows)
    if name == "a":
        return intermediate(tiny_bert), EncodedDataset(texts)
    logits = np.random.default_rng(1).normal(size=(rows, 2)).astype(np.float32)
    student = tiny_bert(seed=3, hidden_dropout_prob=0.1)
    return PredictionObjective(student, "classification", 1.0), teacher_logits_dataset(
        texts, logits, np.zeros(rows, dtype=np.int64)
    )


def trainer_of(name: str, tiny_bert: Callable[..., Any], precision: str = "fp32") -> StageTrainer:
    objective, rows = stage(name, tiny_bert)
    return StageTrainer(objective, rows, replace(SHORT, precision=precision), name, objective.student, None)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_stage_learns_in_every_precision(
    name: str, precision: str, device: torch.device, tiny_bert: Callable[..., Any]
) -> None:
    """fp16 trains with a scaler, and on a GPU alone."""
    objective, rows = stage(name, tiny_bert)
    schedule = replace(SHORT, epochs=6, precision=precision)
    if precision == "fp16" and device.type == "cpu":
        with pytest.raises(ToolkitError, match="fp16 needs a GPU"):
            fit(objective, rows, schedule, name=name, model=objective.student, evaluate=None)
        return
    result = fit(objective, rows, schedule, name=name, model=objective.student, evaluate=None)
    assert result.precision == precision
    losses = [sum(value for key, value in row.items() if key != "step") for row in result.history]
    assert losses[-1] < 0.98 * losses[0]
    assert {parameter.dtype for parameter in objective.parameters()} == {torch.float32}


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing in the toolkit catches it."""


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.usefixtures("deterministic", "device")
def test_a_resumed_stage_is_the_same_to_the_bit(name: str, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    def weights(checkpoints: Checkpoints | None, kill_at: int | None = None) -> dict[str, torch.Tensor]:
        objective, rows = stage(name, tiny_bert)
        seen = 0

        def count(*_: Any) -> None:
            nonlocal seen
            if seen == kill_at:
                raise Killed
            seen += 1

        objective.register_forward_pre_hook(count)
        fit(objective, rows, SHORT, name=name, model=objective.student, evaluate=None, checkpoints=checkpoints)
        assert seen in (12, 12 - 5)
        return {key: value.cpu() for key, value in objective.state_dict().items()}

    def store() -> Checkpoints:
        return Checkpoints({"out": str(tmp_path / "out"), "checkpoint_every": 1}, {"train": "a" * 64})

    whole = weights(None)
    with pytest.raises(Killed), store() as checkpoints:
        weights(checkpoints, kill_at=5)
    torch.manual_seed(999)
    with store() as checkpoints:
        resumed = weights(checkpoints)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    assert any(
        not torch.equal(whole[key], value.cpu()) for key, value in stage(name, tiny_bert)[0].state_dict().items()
    )


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_host_does_not_wait_for_the_device_within_a_step(
    name: str, device: torch.device, tiny_bert: Callable[..., Any]
) -> None:
    """PyTorch warns of each wait, with the place in Python; on a CPU there is nothing to wait for."""
    trainer = trainer_of(name, tiny_bert, "bf16")
    steps = trainer.batches.remaining_steps(0)
    for _ in range(2):
        losses = trainer.step(next(steps))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _warn_of_waits(device, "warn")
        try:
            trainer.step(next(steps))
            within = len(caught)
            float(next(iter(losses.values())))
        finally:
            _warn_of_waits(device, "default")
    assert {place for place, _ in _waits(caught[:within])} <= ALLOWED_WAITS
    assert len(_waits(caught[within:])) == (device.type == "cuda")  # reading a loss is a wait, and is noticed


def _waits(caught: Sequence[warnings.WarningMessage]) -> list[tuple[str, int]]:
    """File and line of each wait."""
    return [
        (Path(warning.filename).name, warning.lineno) for warning in caught if "synchronizing" in str(warning.message)
    ]


def _warn_of_waits(device: torch.device, mode: str) -> None:
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)
