"""How a student learns: whose layers, beside its teacher's answers, and which word pieces it reads.

A student that is projected from another encoder learns this encoder's layers and reads its word pieces. Another one
learns its teacher's layers, where they are recorded and both read the same pieces, else the answers to whole texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.config import COMPUTED, DistillConfig, layer_options
from toolkit.console import echo
from toolkit.distillation.initialization.encoder import open_encoder
from toolkit.distillation.initialization.released import is_released, rewrite_released
from toolkit.distillation.initialization.student import is_student
from toolkit.distillation.initialization.vocabulary import shares_pieces
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import family_name, student_type
from toolkit.models.loading import Source, output_names
from toolkit.models.student import Shape, StudentPlan, plan_student
from toolkit.models.trial import check_classifier


@dataclass(frozen=True)
class Teaching:
    """What a student learns from.

    Attributes:
        source: the teacher as it was named; None where a file has its answers.
        teacher: its model, in eval mode; None likewise.
        reader: the model whose word pieces the student reads.
        start: the model that `--init` names, where it names one.
        layer_teacher: the model whose layers the student learns: the teacher, the encoder that it is projected from, or
            None for the answers only.
        max_length: tokens at which the student's texts are cut, unless the options say.
        plan: of the student; without a layer map where it learns no layers.
        projected: whether the student starts as a projection.
    """

    source: Source | None
    teacher: Any
    reader: Source
    start: Source | None
    layer_teacher: Any
    max_length: int
    plan: StudentPlan
    projected: bool

    @property
    def by_answers(self) -> bool:
        """Whether the student learns no layer of its teacher: it starts when the teacher has answered."""
        return self.teacher is None or self.layer_teacher is not self.teacher

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the teacher's outputs."""
        return () if self.source is None else output_names(self.source.config)


def plan_teaching(config: DistillConfig, workdir: Path) -> Teaching:
    """Open the models, find out what a student learns from, and say it where that is not its teacher's layers.

    Args:
        config: options.
        workdir: gets the files of the models' tokenizers.

    Raises:
        ToolkitError: models that cannot be used, an encoder that the student cannot be projected from, or options that
            need layers where there are answers only.
    """
    source = None if config.teacher is None else Source(config.teacher, workdir)
    teacher = None if source is None else source.classifier()
    if source is not None:
        check_classifier(teacher, source.name)
    start = None if config.init in COMPUTED else open_start(config.init, workdir)
    if start is not None and source is not None:
        _check_family(config, source, start)
    plan = StudentPlan(Shape.parse(config.student), (), config.init, config.student_family)
    if start is not None and not is_student(start, plan):
        encoder = open_encoder(start, plan.shape, config.init)
        echo(
            f"the student learns the layers of {config.init}, which it is projected from, and the answers of "
            f"{config.teacher or config.teacher_scores}"
        )
        return Teaching(
            source, teacher, start, start, encoder, _shared_length(start, source), _plan(config, encoder),
            projected=True,
        )  # fmt: skip
    other = start if config.student_tokenizer is None else Source(config.student_tokenizer, workdir / "pieces")
    problem = _layer_problem(config, source, teacher, start, other)
    if problem is None:
        assert source is not None, "layers are those of a teacher at hand"
        return Teaching(
            source, teacher, source, start, teacher, source.stated_length, _plan(config, teacher),
            projected=config.init == "teacher",
        )  # fmt: skip
    _check_options(config, problem)
    reader = other or source
    assert reader is not None, "a file of answers comes with a model whose word pieces the student reads"
    if source is not None:
        echo(problem)
    else:
        student_type(config.student_family, reader.config)
    return Teaching(source, teacher, reader, start, None, reader.stated_length, plan, projected=False)


def _plan(config: DistillConfig, layer_teacher: Any) -> StudentPlan:
    return plan_student(
        layer_teacher, shape=config.student, layers=config.layer_map, init=config.init, weights=config.weights,
        relation_heads=config.relation_heads, family=config.student_family,
    )  # fmt: skip


def _shared_length(start: Source, source: Source | None) -> int:
    """Return the tokens that a student of a start reads: no more than its teacher, where both read the same pieces."""
    if source is None or not shares_pieces(start, source):
        return start.stated_length
    return min(source.stated_length, start.stated_length)


def _layer_problem(
    config: DistillConfig, source: Source | None, teacher: Any, start: Source | None, other: Source | None
) -> str | None:
    """Say why the student cannot learn its teacher's layers; None where it can."""
    if source is None:
        return f"{config.teacher_scores} teaches by its answers only: a file has no layers"
    if other is not None and not shares_pieces(other, source):
        problem: str | None = f"the student reads the word pieces of {other.name}"
    elif start is not None and student_type(config.student_family, source.config, start.config) != (
        start.config.model_type
    ):
        problem = f"the student is of another family, {family_name(start.config)}"
    else:
        problem = recording_problem(teacher)
    return problem and f"{family_name(source.config)} teaches by its answers only: {problem}"


def open_start(name: str, workdir: Path) -> Source:
    """Open the model that --init names, also a directory as TinyBERT's authors released them."""
    if is_released(Path(name)):
        name = str(rewrite_released(Path(name), workdir / "released"))
    return Source(name, workdir / "start")


def _check_family(config: DistillConfig, source: Source, start: Source) -> None:
    """Refuse to ask for the teacher's family where the first weights are of another."""
    if config.student_family == "teacher" and start.config.model_type != source.config.model_type:
        raise ToolkitError(
            f"--student-family teacher with --init {config.init}: the teacher is {family_name(source.config)}, "
            f"the start {family_name(start.config)}",
            expected="a start of the teacher's family", fix="leave out --student-family, or --init teacher",
        )  # fmt: skip


def _check_options(config: DistillConfig, sentence: str) -> None:
    """Refuse options that read layers, or a start or family that the student cannot have."""
    if config.init == "teacher":
        raise ToolkitError(
            f"{sentence}; --init teacher would project its layers",
            expected="--init ENCODER, whose word pieces the student then reads, or --init random",
            fix="--init with a small encoder in the language of the texts: random weights need far more text",
        )
    family = config.student_family == "teacher" and config.teacher is not None
    options = layer_options(config.without_derived()) + ["--student-family teacher"] * family
    if options:
        raise ToolkitError(
            f"{sentence}; {', '.join(options)} cannot be", expected="options of the prediction stage alone",
            fix=f"leave out {', '.join(options)}",
        )  # fmt: skip
