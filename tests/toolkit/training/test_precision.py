"""bf16 products on a CPU: taken where the hardware has them, rounded inputs and float32 sums, nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.support.training import SCHEDULE, encoded, intermediate
from toolkit.distillation.activations import ActivationRecorder
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import cpu_flags
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.precision import bf16_frozen_weights, bf16_matmul, resolve_precision
from toolkit.training.schedule import TrainingSchedule, Unit
from toolkit.training.supervised import SupervisedObjective
from toolkit.training.trainer import Objective, StageTrainer, fit

CPU = torch.device("cpu")
has_amx = "amx_bf16" in cpu_flags()


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


@pytest.mark.parametrize(
    ("flags", "auto"),
    [(["avx2", "avx512f"], "fp32"), (["avx2", "avx512_bf16"], "bf16"), (["amx_bf16", "avx2"], "bf16")],
)
def test_auto_takes_what_the_cpu_multiplies_in(flags: list[str], auto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.training.precision.cpu_flags", lambda: flags)
    assert resolve_precision("auto", CPU, 30.0) == auto
    assert resolve_precision("auto", CPU, 400.0) == "fp32", "attention over long rows is faster as one kernel"
    assert [resolve_precision(name, CPU, 400.0) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(ToolkitError, match="fp16 needs a GPU; this is a cpu"):
        resolve_precision("fp16", CPU, 30.0)


def test_products_round_their_inputs_and_sum_in_float32() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(96, 64), torch.randn(48, 64, requires_grad=True)
    exact = F.linear(x, w).detach()
    with bf16_matmul("bf16", CPU):
        actual = F.linear(x, w)
        actual.backward(torch.ones_like(actual))
    expected, gradient = F.linear(rounded(x), rounded(w)).detach(), rounded(x).sum(0).expand(48, 64)
    assert actual.dtype == torch.float32
    if has_amx:
        torch.testing.assert_close(actual.detach(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(w.grad, gradient, atol=1e-4, rtol=1e-5)
        assert (actual - exact).abs().max() > 1e-3  # the control: it is not float32's product
    else:
        torch.testing.assert_close(actual.detach(), exact, atol=0.2, rtol=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_is_left_behind(precision: str) -> None:
    x = torch.randn(64, 64)
    before = torch.get_float32_matmul_precision(), x @ x, torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(ZeroDivisionError), bf16_matmul(precision, CPU):
        raise ZeroDivisionError
    assert (torch.get_float32_matmul_precision(), torch.backends.cuda.flash_sdp_enabled()) == (before[0], before[2])
    assert torch.equal(x @ x, before[1])


def test_a_student_learns_the_same_curve(tiny_bert: Callable[..., Any]) -> None:
    """The losses of bf16's steps follow float32's within the rounding, and the stage tells what it took."""
    curves = {}
    for precision in ("fp32", "bf16"):
        objective = intermediate(tiny_bert)
        schedule = TrainingSchedule(
            epochs=8, lr=1e-2, batch_size=8, warmup=0.1, weight_decay=0.0, seed=0, precision=precision
        )  # fmt: skip
        result = fit(objective, EncodedDataset(encoded(80)), schedule, name="t", model=objective.student, evaluate=None)
        assert result.precision == result.to_dict()["precision"] == precision
        assert all(p.dtype == torch.float32 for p in objective.parameters())
        curves[precision] = result.history
    assert curves["fp32"][-1]["hidden"] < 0.5 * curves["fp32"][0]["hidden"]
    for exact, actual in zip(curves["fp32"], curves["bf16"], strict=True):
        assert actual == pytest.approx(exact, rel=0.05)


def test_a_frozen_teacher_multiplies_by_weights_rounded_once(tiny_bert: Callable[..., Any]) -> None:
    """Its layers give the products of rounded numbers, hooks see them, and nothing of it is left behind."""
    teacher, batch = tiny_bert().eval(), EncodedDataset(encoded(6)).collate(range(6))
    del batch["token_type_ids"]
    linear, weights = teacher.bert.encoder.layer[0].intermediate.dense, copy.deepcopy(teacher.state_dict())
    x = torch.randn(40, linear.in_features)
    with torch.no_grad():
        exact, before = linear(x), teacher(**batch).logits
        with bf16_frozen_weights(teacher, "bf16", CPU):
            actual, during = linear(x), teacher(**batch).logits
            recorder = ActivationRecorder(teacher, [1])
            teacher(**batch)
            recorder.close()
        after = teacher(**batch).logits
    torch.testing.assert_close(
        actual, F.linear(rounded(x), rounded(linear.weight), rounded(linear.bias)), rtol=0.01, atol=1e-4
    )
    assert actual.dtype == during.dtype == torch.float32
    assert not torch.equal(actual, exact)
    torch.testing.assert_close(during, before, rtol=0.05, atol=0.05)
    assert torch.equal(recorder.activations.queries[1], rounded(recorder.activations.queries[1]))
    assert torch.equal(after, before)
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())


def test_weights_that_layers_share_are_rounded_once() -> None:
    layers = nn.ModuleList(nn.Linear(3, 4) for _ in range(2))
    layers[1].weight = layers[0].weight
    with bf16_frozen_weights(layers, "bf16", CPU):
        (weight, bias), (shared, other) = (vars(layer)["forward"].args for layer in layers)
    assert weight is shared
    assert bias is not other


def test_a_teacher_in_float32_is_left_alone(tiny_bert: Callable[..., Any]) -> None:
    teacher = tiny_bert()
    with bf16_frozen_weights(teacher, "fp32", CPU), bf16_frozen_weights(teacher, "bf16", torch.device("cuda")):
        assert all("forward" not in vars(module) for module in teacher.modules())


@pytest.fixture
def bf16_losses(tiny_bert: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.Tensor]]:
    """The losses of an objective, and queries of its teacher, in a step under bf16 autocast as on a GPU."""
    monkeypatch.setattr("toolkit.training.trainer.autocast", lambda *_: torch.autocast("cpu", torch.bfloat16))
    monkeypatch.setattr("toolkit.training.trainer.bf16_matmul", lambda *_: nullcontext())
    recorded: dict[str, torch.Tensor] = {}

    class Watched(IntermediateObjective):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            losses = super().forward(batch)
            recorded.update(losses, states=self._recorders[1].activations.queries[3])
            return losses

    objective = intermediate(tiny_bert, Watched)
    schedule = TrainingSchedule(
        epochs=1, lr=1e-2, batch_size=8, warmup=0.1, weight_decay=0.0, seed=0, precision="bf16"
    )  # fmt: skip
    fit(objective, EncodedDataset(encoded(8)), schedule, name="t", model=objective.student, evaluate=None)
    assert all(p.dtype == torch.float32 for p in objective.parameters())
    return recorded


def test_losses_are_float32_at_every_precision(bf16_losses: dict[str, torch.Tensor]) -> None:
    assert bf16_losses.pop("states").dtype == torch.bfloat16  # the matrix products are not
    assert {name: value.dtype for name, value in bf16_losses.items()} == dict.fromkeys(bf16_losses, torch.float32)


def test_fp16_needs_a_gpu(tiny_bert: Callable[..., Any]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    model, schedule = tiny_bert(), TrainingSchedule(**{**asdict(SCHEDULE), "precision": "fp16"})
    with pytest.raises(ToolkitError, match="fp16 needs a GPU"):
        fit(
            SupervisedObjective(model, "classification"), EncodedDataset(encoded(8), np.arange(8) % 2), schedule,
            name="t", model=model, evaluate=None,
        )  # fmt: skip


class Steep(Objective):
    """A loss of slope `slope` in its one weight, so that fp16's scale can overflow its gradient."""

    averaged_over: ClassVar[Mapping[str, Unit]] = {"line": "rows"}

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.weight, self.slope = nn.Parameter(torch.tensor(1.0)), slope

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"line": self.slope * self.weight}


@pytest.fixture
def fp16_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16's gradient scaler, which a CPU has as well, without fp16's products, which it has not."""
    monkeypatch.setattr("toolkit.training.trainer.resolve_precision", lambda *_: "fp16")
    monkeypatch.setattr("toolkit.training.trainer.autocast", lambda *_: nullcontext())


@pytest.mark.usefixtures("fp16_on_a_cpu")
def test_a_gradient_that_overflows_moves_nothing_and_halves_the_scale() -> None:
    """The scale begins at 2^16: slopes of 2^112 overflow float32 with it, and fit once it is halved."""
    objective = Steep(2.0**112)
    trainer = StageTrainer(objective, EncodedDataset(encoded(40)), SCHEDULE, "t", objective, None)
    steps = trainer.batches.remaining_steps(0)
    weights = [objective.weight.item()]
    for _ in range(2):
        trainer.step(next(steps))
        weights.append(objective.weight.item())
    assert weights[0] == weights[1] != weights[2]
    assert trainer.scaler.get_scale() == 2.0**15


@pytest.mark.usefixtures("fp16_on_a_cpu")
def test_scaled_gradients_move_the_weights_as_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clipping sees the gradient, not its scaled copy."""
    weights = []
    for precision in ("fp16", "fp32"):
        monkeypatch.setattr("toolkit.training.trainer.resolve_precision", lambda *_, name=precision: name)
        objective = Steep(0.25)
        fit(objective, EncodedDataset(encoded(40)), SCHEDULE, name="t", model=objective, evaluate=None)
        weights.append(objective.weight.item())
    assert weights[0] == weights[1] != 1.0


@pytest.mark.usefixtures("fp16_on_a_cpu")
def test_the_scale_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    def trainer() -> StageTrainer:
        objective = Steep(2.0**112)
        checkpoints = Checkpoints({"out": str(tmp_path / "out"), "checkpoint_every": 1}, {})
        return StageTrainer(objective, EncodedDataset(encoded(40)), SCHEDULE, "t", objective, checkpoints)

    first = trainer()
    first.step(next(first.batches.remaining_steps(0)))
    first.save_checkpoint()
    second = trainer()
    assert second.result.steps == 1
    assert second.scaler.get_scale() == first.scaler.get_scale() == 2.0**15
