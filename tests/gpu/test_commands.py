"""The commands on a device: distill from the teacher's own weights, evaluate, augment; one process with NCCL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data import BAD, FILLER, GOOD
from tests.support.distillation import distill
from tests.support.masked_lm import masked_words, save_mlm
from tests.support.paths import ROOT
from toolkit.augmentation.words import eligible_words
from toolkit.benchmarking.comparisons import random_batch
from toolkit.benchmarking.cuda_graphs import GraphRuntime
from toolkit.data.datasets import load_split, resolve_task
from toolkit.data.tokenization import TextEncoder
from toolkit.inference.runtimes import TorchRuntime
from toolkit.training.distributed import model_logits


def test_a_student_that_starts_from_its_teacher_learns_the_task(
    device: torch.device, tiny_teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    manifest = distill(tiny_teacher, data_dir, tmp_path / "student")
    assert manifest["metrics"]["accuracy"] > 0.9
    assert manifest["stages"]["intermediate"]["steps"] > 0
    expected = "fp32 bf16" if device.type == "cpu" else "bf16 fp16"
    assert all(stage["precision"] in expected for stage in manifest["stages"].values())


def test_a_student_scores_as_on_the_cpu(device: torch.device, tiny_student: Path, data_dir: Path) -> None:
    dev = load_split(resolve_task("auto", str(data_dir)), "dev", str(data_dir))
    encoded = TextEncoder(tiny_student, 32).encode(dev.texts)
    runtime = TorchRuntime.load(tiny_student)
    expected = np.concatenate([runtime.run(encoded.batch([row])) for row in range(len(encoded))])
    model = TorchRuntime.load(tiny_student).model
    np.testing.assert_allclose(model_logits(model, encoded), expected, atol=1e-4)
    assert model.device.type == device.type
    assert np.ptp(expected) > 0.1


def test_candidates_are_found_on_the_device(device: torch.device, tmp_path: Path) -> None:
    vocabulary = [*GOOD, *BAD, *FILLER]
    best = ["warm", "cold", "film"]
    masked = masked_words(save_mlm(tmp_path / "mlm", vocabulary, best), tmp_path)
    texts = ["a good movie", "the plot was dull"]
    candidates = masked.candidates(texts, [eligible_words(text) for text in texts])
    assert masked.device.type == device.type
    assert {tuple(words) for words in candidates.values()} == {("warm", "cold", "film")}


@pytest.mark.parametrize("graphs", [False, True])
def test_runtimes_give_the_logits_of_the_cpu(graphs: bool, device: torch.device, tiny_bert: Callable[..., Any]) -> None:
    """A graph is replayed over new inputs, and captured again for another shape."""
    expected = TorchRuntime(tiny_bert())
    runtime = (GraphRuntime if graphs else TorchRuntime)(tiny_bert(), str(device))
    answers = []
    for seed, (size, length) in enumerate([(2, 8), (2, 8), (3, 5), (2, 8)]):
        batch = random_batch(size, length, 60, seed)
        batch["attention_mask"][0, length // 2 :] = 0
        answers.append(runtime.run(batch))
        np.testing.assert_allclose(answers[-1], expected.run(batch), atol=1e-4)
    assert np.abs(answers[0] - answers[1]).max() > 1e-2


@pytest.mark.slow
def test_one_process_of_torchrun_trains_as_the_command_alone(
    device: torch.device, tiny_teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    """By NCCL on a GPU, by gloo on a CPU."""
    flags = [
        "--teacher", str(tiny_teacher), "--task", "auto", "--data", str(data_dir), "--student", "2/16/32/4",
        "--intermediate-epochs", "1", "--prediction-epochs", "1", "--precision", "fp32",
    ]  # fmt: skip
    losses = []
    for name, launcher in (
        ("alone", []),
        ("torchrun", ["torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m"]),
    ):
        command = [sys.executable, "-m", *launcher, "toolkit", "distill", *flags, "--out", str(tmp_path / name)]
        environ = os.environ | {"NCCL_DEBUG": "VERSION", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / name / "bundle.json").read_text(encoding="utf-8"))
        losses.append([row for stage in report["stages"].values() for row in stage["history"]])
    assert ("NCCL version" in done.stdout + done.stderr) == (device.type == "cuda")
    for alone, launched in zip(*losses, strict=True):
        assert launched == pytest.approx(alone, rel=1e-4)
