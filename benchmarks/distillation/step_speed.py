"""The speed of a step of stage a: `python -m benchmarks.distillation.step_speed [--help]`.

Times this project's step and a plain rendition of the reference code's on the same rows, in one process, in turns. The
plain step pads every row to max_length, lets teacher and student return all attentions and hidden states, which turns
fused attention off, averages its losses over padding too, and steps AdamW. Both steps have the same teacher. The
student's weights are random; speed does not depend on them. Prints one JSON object for each max_length, and writes
them to --results.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.paths import STEP
from toolkit.data.builtin import minilm
from toolkit.data.datasets import load_split
from toolkit.distillation.objectives import IntermediateObjective
from toolkit.measurement.environment import environment
from toolkit.measurement.statistics import paired_ratio
from toolkit.models.families import depth
from toolkit.models.loading import Source
from toolkit.models.student import Projections, Shape, layer_map, student_config
from toolkit.tasks import get_task
from toolkit.training.dataset import EncodedDataset
from toolkit.training.precision import bf16_frozen_weights
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageTrainer

WEIGHTS = {"attention": 1.0, "hidden": 1.0, "embedding": 1.0}
WARM_UPS = 3


class PlainStep:
    """A step of the intermediate stage of TinyBERT's own task_distill.py, on today's models."""

    def __init__(self, student: Any, teacher: Any, mapping: tuple[int, ...], device: torch.device) -> None:
        self.student, self.teacher = student.to(device).train(), teacher.to(device).eval()
        for model in (student, teacher):
            model.set_attn_implementation("eager")
        self.mapping, self.device = (0, *mapping), device
        self.fit_dense = nn.Linear(student.config.hidden_size, teacher.config.hidden_size).to(device)
        self.optimizer = torch.optim.AdamW([*student.parameters(), *self.fit_dense.parameters()], lr=5e-5)

    def __call__(self, batch: dict[str, torch.Tensor]) -> None:
        """Take a step on rows padded to max_length."""
        batch = {name: value.to(self.device) for name, value in batch.items()}
        student = self.student(**batch, output_attentions=True, output_hidden_states=True)
        with torch.no_grad():
            teacher = self.teacher(**batch, output_attentions=True, output_hidden_states=True)
        loss = torch.zeros((), device=self.device)
        for m, g in enumerate(self.mapping):
            loss = loss + F.mse_loss(self.fit_dense(student.hidden_states[m]), teacher.hidden_states[g])
            if m:
                loss = loss + F.mse_loss(student.attentions[m - 1], teacher.attentions[g - 1])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(arguments: argparse.Namespace, source: Source, max_length: int) -> dict[str, Any]:
    """Measure rows and tokens a second of both steps, and their ratio over the same rows."""
    task = get_task("sst2" if arguments.data else "rotten-tomatoes")
    texts = load_split(task, "train", arguments.data).subsample(arguments.rows, 0).texts
    encoded = source.encoder(task, max_length).encode(texts)
    rows = EncodedDataset(encoded)
    torch.manual_seed(0)
    teacher = source.classifier(task).eval()
    shape = Shape.parse(arguments.student)
    mapping = layer_map("uniform", depth(teacher), shape.layers)
    student = type(teacher)(student_config(teacher.config, shape, dropout=0.0))
    width = teacher.config.hidden_size
    projections = Projections(shape.layers + 1, shape.hidden, width)
    reference = copy.deepcopy((student, teacher))
    objective = IntermediateObjective(student, teacher, projections, mapping, WEIGHTS)
    schedule = TrainingSchedule(1_000, 5e-5, arguments.batch_size, 0.1, 0.01, 0, precision=arguments.precision)
    run = StageTrainer(objective, rows, schedule, "bench", student, None)
    device = run.accelerator.device
    plain = PlainStep(*reference, mapping, device)
    ours_s, plain_s, sizes = [], [], []
    with bf16_frozen_weights(teacher, run.result.precision, device):  # as `toolkit distill` holds it
        for i, parts in zip(range(WARM_UPS + arguments.steps), run.batches.remaining_steps(0), strict=False):
            chosen = parts[0].rows
            padded = {name: torch.from_numpy(array) for name, array in encoded.batch(chosen, max_length).items()}
            programs = [(ours_s, lambda p=parts: run.step(p)), (plain_s, lambda b=padded: plain(b))]
            for times, program in programs if i % 2 else reversed(programs):
                times.append(timed(program, device))
            sizes.append((len(chosen), int(encoded.lengths[chosen].sum())))
    ours, other = (np.array(times[WARM_UPS:]) for times in (ours_s, plain_s))
    counts = np.array(sizes[WARM_UPS:])
    ratio = paired_ratio(other, ours)
    return {
        "max_length": max_length, "data": task.name, "mean_tokens": round(float(encoded.lengths.mean()), 1),
        "batch_size": arguments.batch_size, "student": arguments.student, "precision": run.result.precision,
        "device": str(device), "threads": torch.get_num_threads(), "steps": len(ours), "ratio": round(ratio.value, 2),
        "low": round(ratio.low, 2), "high": round(ratio.high, 2),
        "ratio_of_totals": round(float(other.sum() / ours.sum()), 2),
        "samples_per_s": round(float(counts[:, 0].sum() / ours.sum()), 1),
        "plain_samples_per_s": round(float(counts[:, 0].sum() / other.sum()), 1),
        "tokens_per_s": round(float(counts[:, 1].sum() / ours.sum())),
        "plain_tokens_per_s": round(float(counts[:, 1].sum() / other.sum())),
    }  # fmt: skip


def timed(program: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, with the accelerator's work."""
    start = time.perf_counter()
    program()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Measure each length in turn and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="SST-2 as GLUE has it [default: the embedded Rotten Tomatoes]")
    parser.add_argument("--teacher", default=str(minilm()), help="a directory; its head may be new")
    parser.add_argument("--student", default="4/312/1200/12")
    parser.add_argument("--max-length", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="auto", help="of our step, as `toolkit distill` has it")
    parser.add_argument("--rows", type=int, default=8_000, help="of train to draw from")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to PyTorch")
    parser.add_argument("--results", type=Path, default=STEP)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as workdir:
        source = Source(arguments.teacher, Path(workdir))
        for max_length in arguments.max_length:
            rows.append(measure(arguments, source, max_length))
            print(json.dumps(rows[-1]), flush=True)
    content = {"environment": environment(), "measured": rows}
    arguments.results.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
