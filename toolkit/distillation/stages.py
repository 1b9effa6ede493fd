"""The stages of a distillation: the layer-by-layer stage a and the prediction stage b."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

from toolkit.console import echo
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.data import DistillationData
from toolkit.distillation.initialization.student import ModelPair
from toolkit.distillation.objectives import IntermediateObjective, PredictionObjective
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.distributed import distributed_state
from toolkit.training.fake_quantization import fake_quantized
from toolkit.training.precision import bf16_frozen_weights
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import StageResult, fit


def train_layers(
    name: str, models: ModelPair, texts: TokenizedInputs, schedule: TrainingSchedule, checkpoints: Checkpoints, *,
    weights: Mapping[str, float], relation_heads: int | None,
) -> StageResult:  # fmt: skip
    """Minimise the losses of the mapped layers (Eq. 7 to 9); the last step is kept.

    Args:
        name: of the stage, for its progress bar and checkpoints.
        models: the student is trained, the model whose layers it learns is not.
        texts: inputs; labels are not needed.
        schedule: of the stage.
        checkpoints: to resume from and to write.
        weights: of the losses, by name.
        relation_heads: of the relation loss; None takes the most that divide both widths.
    """
    assert models.projections is not None, "a teacher that gives its answers only has no layers to learn from"
    objective = IntermediateObjective(
        models.student, models.layer_teacher, models.projections, models.mapping, weights, relation_heads
    )
    device, tokens = distributed_state().device, float(texts.lengths.mean())
    with closing(objective), bf16_frozen_weights(models.layer_teacher, schedule.precision, device, tokens):
        # no metric chooses here: the head is not being trained, so the last step is the one to keep
        return fit(
            objective, EncodedDataset(texts), schedule, name=name, model=models.student, evaluate=None,
            checkpoints=checkpoints,
        )  # fmt: skip


def train_prediction(
    student: Any, data: DistillationData, dataset: EncodedDataset, schedule: TrainingSchedule,
    checkpoints: Checkpoints, *, weights: Mapping[str, float], temperature: float, quantization_aware: bool,
) -> StageResult:  # fmt: skip
    """Minimise the soft cross-entropy against the teacher's logits (Eq. 10) and the label loss; keep the best step.

    Args:
        student: a classifier.
        data: its rows that choose score the student; without them the last step is kept.
        dataset: training texts with the teacher's logits.
        schedule: of the stage.
        checkpoints: to resume from and to write.
        weights: "prediction" and "label".
        temperature: of the prediction loss.
        quantization_aware: compute the student in the arithmetic of its int8 export.
    """
    if weights["label"] and len(data.texts) > len(data.train):
        echo(f"the label loss sees {len(data.train):,} of {len(data.texts):,} texts: the unlabelled have none")
    if quantization_aware and schedule.precision == "auto":
        schedule = replace(schedule, precision="fp32")  # bf16 has no room for the whole numbers of int8
    objective = PredictionObjective(
        student, data.task.kind, temperature, prediction=weights["prediction"], label=weights["label"]
    )
    with fake_quantized(student) if quantization_aware else nullcontext():
        return fit(
            objective, dataset, schedule, name="prediction", model=student,
            evaluate=data.scorer.selection_metric(student), checkpoints=checkpoints,
        )  # fmt: skip
