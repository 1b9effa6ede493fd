"""bf16 products on a CPU: taken where the hardware has them, rounded inputs and float32 sums, nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tests.support.training import encoded, intermediate
from toolkit.distillation.activations import ActivationRecorder
from toolkit.errors import ToolkitError
from toolkit.measurement.environment import environment
from toolkit.training.precision import bf16_frozen_weights, bf16_matmul, resolve_precision
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import EncodedDataset, fit

CPU = torch.device("cpu")
has_amx = "amx_bf16" in environment()["cpu_flags"]


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


@pytest.mark.parametrize(
    ("flags", "auto"),
    [(["avx2", "avx512f"], "fp32"), (["avx2", "avx512_bf16"], "bf16"), (["amx_bf16", "avx2"], "bf16")],
)
def test_auto_takes_what_the_cpu_multiplies_in(flags: list[str], auto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.training.precision.environment", lambda: {"cpu_flags": flags})
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
        found = F.linear(x, w)
        found.backward(torch.ones_like(found))
    wanted, gradient = F.linear(rounded(x), rounded(w)).detach(), rounded(x).sum(0).expand(48, 64)
    assert found.dtype == torch.float32
    if has_amx:
        torch.testing.assert_close(found.detach(), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(w.grad, gradient, atol=1e-4, rtol=1e-5)
        assert (found - exact).abs().max() > 1e-3  # the control: it is not float32's product
    else:
        torch.testing.assert_close(found.detach(), exact, atol=0.2, rtol=0.05)


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
        fitted = fit(objective, EncodedDataset(encoded(80)), schedule, name="t", model=objective.student, evaluate=None)
        assert fitted.precision == fitted.to_dict()["precision"] == precision
        assert all(p.dtype == torch.float32 for p in objective.parameters())
        curves[precision] = fitted.history
    assert curves["fp32"][-1]["hidden"] < 0.5 * curves["fp32"][0]["hidden"]
    for exact, found in zip(curves["fp32"], curves["bf16"], strict=True):
        assert found == pytest.approx(exact, rel=0.05)


def test_a_frozen_teacher_multiplies_by_weights_rounded_once(tiny_bert: Callable[..., Any]) -> None:
    """Its layers give the products of rounded numbers, hooks see them, and nothing of it is left behind."""
    teacher, batch = tiny_bert().eval(), EncodedDataset(encoded(6)).collate(range(6))
    del batch["token_type_ids"]
    linear, weights = teacher.bert.encoder.layer[0].intermediate.dense, copy.deepcopy(teacher.state_dict())
    x = torch.randn(40, linear.in_features)
    with torch.no_grad():
        exact, before = linear(x), teacher(**batch).logits
        with bf16_frozen_weights(teacher, "bf16", CPU):
            found, during = linear(x), teacher(**batch).logits
            recorder = ActivationRecorder(teacher, [1])
            teacher(**batch)
            recorder.close()
        after = teacher(**batch).logits
    torch.testing.assert_close(
        found, F.linear(rounded(x), rounded(linear.weight), rounded(linear.bias)), rtol=0.01, atol=1e-4
    )
    assert found.dtype == during.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(during, before, rtol=0.05, atol=0.05)
    assert torch.equal(recorder.activations.queries[1], rounded(recorder.activations.queries[1]))
    assert torch.equal(after, before)
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_in_float32_is_left_alone(tiny_bert: Callable[..., Any]) -> None:
    teacher = tiny_bert()
    with bf16_frozen_weights(teacher, "fp32", CPU), bf16_frozen_weights(teacher, "bf16", torch.device("cuda")):
        assert all("forward" not in vars(module) for module in teacher.modules())
