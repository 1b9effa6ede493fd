"""What a search starts from: the teacher's shape, the student that it can have, and the lengths of the data's texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.compression.shapes import linear_weights
from toolkit.compression.timing import typical_lengths
from toolkit.compression.trainings import Epochs, training
from toolkit.compression.words import Vocabulary
from toolkit.config import STUDENTS, CompressConfig
from toolkit.data.columns import DataOptions
from toolkit.distillation.data import DistillationData, student_data
from toolkit.distillation.duration import answer_seconds
from toolkit.distillation.recording_check import recording_problem
from toolkit.distillation.rows import TaskRows
from toolkit.errors import ToolkitError
from toolkit.models.families import depth, family_name, hidden_width
from toolkit.models.loading import Source, output_names
from toolkit.models.student import Shape, ffn_width, student_config
from toolkit.models.trial import check_classifier

FORWARD_AND_BACKWARD = 3  # times the work of a forward pass


@dataclass(frozen=True)
class Material:
    """A teacher and its data, as far as a search has to know them beforehand.

    Attributes:
        teacher: the teacher's shape.
        config: of a student's `config.json`: vocabulary, positions, labels.
        lengths: of the training texts in tokens, [n].
        seconds_per_weight: of a forward pass in training, for each weight of the linear layers and each token.
        vocabulary: what a student's may be cut to; None keeps it whole.
    """

    teacher: Shape
    config: dict[str, Any]
    lengths: np.ndarray
    seconds_per_weight: float
    vocabulary: Vocabulary | None = None

    @property
    def typical(self) -> list[int]:
        """A few lengths that stand for those of the data."""
        return typical_lengths(self.lengths)

    @property
    def references(self) -> list[Shape]:
        """The shapes of the paper that can be projected from this teacher."""
        return [shape for name in STUDENTS if self.can_teach(shape := Shape.parse(name))]

    def can_teach(self, shape: Shape) -> bool:
        """Tell whether a shape can be projected from the teacher."""
        teacher = self.teacher
        fits = (shape.layers <= teacher.layers, shape.hidden <= teacher.hidden, shape.ffn <= teacher.ffn)
        return all(fits) and shape.heads == teacher.heads

    def training_seconds(self, shape: Shape, epochs: Epochs) -> float:
        """Estimate how long a student trains.

        Args:
            shape: of the student.
            epochs: of the layer-by-layer stage, in which the teacher runs beside the student, and of the prediction
                stage.
        """
        student = FORWARD_AND_BACKWARD * linear_weights(shape)
        work = epochs[0] * (linear_weights(self.teacher) + student) + epochs[1] * student
        return float(self.lengths.sum()) * self.seconds_per_weight * work


def open_material(config: CompressConfig, workdir: Path) -> Material:
    """Open the teacher and read the data.

    Raises:
        ToolkitError: options, data or a model that cannot be used, or a teacher whose layers cannot be projected.
    """
    options = training(config, "tinybert4", "", None)
    source = Source(config.teacher, workdir)
    teacher = source.classifier()
    check_classifier(teacher, config.teacher)
    if problem := recording_problem(teacher):
        raise ToolkitError(
            f"{family_name(source.config)} teaches by its answers only: {problem}",
            expected="a teacher whose layers can be projected, such as BERT, RoBERTa, ELECTRA, ALBERT or MPNet",
            fix="toolkit distill --init with a small encoder, then toolkit export --int8",
        )
    rows = TaskRows.load(
        output_names(source.config), config.task, config.data, augment=None, unlabelled=config.unlabelled,
        selection_rows=None, max_rows=None, seed=config.seed, options=DataOptions.of(config), title=config.name,
    )  # fmt: skip
    data = student_data(rows, source, source.stated_length, options.vocabulary_limit, workdir)
    shape = Shape(depth(teacher), hidden_width(teacher), ffn_width(teacher), int(teacher.config.num_attention_heads))
    student = student_config(data.reader.config, shape, dropout=0.0, task=data.task)
    vocabulary = Vocabulary.read(config, data.task, data.reader, student)
    read = data if data.reader is source else DistillationData.read(rows, source, None)
    pace = answer_seconds(teacher, read.texts, options.precision) / linear_weights(shape)
    return Material(shape, student.to_dict(), data.texts.lengths, pace, vocabulary)
