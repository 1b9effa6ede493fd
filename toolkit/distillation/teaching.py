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
from toolkit.data.vocabulary import TrimmedVocabulary, select_pieces
from toolkit.distillation.answer_cache import Inputs
from toolkit.distillation.initialization.encoder import open_encoder
from toolkit.distillation.initialization.released import is_released, rewrite_released
from toolkit.distillation.initialization.student import is_student
from toolkit.distillation.initialization.vocabulary import shares_pieces
from toolkit.distillation.recording_check import recording_problem
from toolkit.errors import ToolkitError
from toolkit.models.families import family_name, student_type
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.models.trimming import trimmed_source


@dataclass(frozen=True)
class Teaching:
    """What a student learns from.

    Attributes:
        reader: the model whose word pieces the student reads.
        start: the model that `--init` names, where it names one.
        layer_teacher: the model whose layers the student learns: the teacher, the encoder that it is projected from, or
            None for the answers only.
        max_length: tokens at which the student's texts are cut, unless the options say.
        projected: whether the student starts as a projection.
    """

    reader: Source
    start: Source | None
    layer_teacher: Any
    max_length: int
    projected: bool


def plan_teaching(config: DistillConfig, source: Source, teacher: Any, workdir: Path) -> Teaching:
    """Find out what a student learns from, and say it where that is not its teacher's layers and answers.

    Args:
        config: options.
        source, teacher: the teacher as it was named, and its model.
        workdir: gets the files of other models' tokenizers.

    Raises:
        ToolkitError: an encoder that the student cannot be projected from, or options that need the layers of a teacher
            that gives its answers only.
    """
    start, family = None if config.init in COMPUTED else open_start(config.init, workdir), config.student_family
    if start is not None:
        _check_family(config, source, start)
        shape = Shape.parse(config.student)
        if not is_student(start, StudentPlan(shape, (), config.init, family)):
            encoder = open_encoder(start, shape, config.init)
            echo(
                f"the student learns the layers of {config.init}, which it is projected from, and the answers of "
                f"{source.name}"
            )
            length = source.stated_length if shares_pieces(start, source) else start.stated_length
            return Teaching(start, start, encoder, min(length, start.stated_length), projected=True)
    other = start if config.student_tokenizer is None else Source(config.student_tokenizer, workdir / "pieces")
    if other is not None and not shares_pieces(other, source):
        problem: str | None = f"the student reads the word pieces of {other.name}"
    elif start is not None and student_type(family, source.config, start.config) != start.config.model_type:
        problem = f"the student is of another family, {family_name(start.config)}"
    else:
        problem = recording_problem(teacher)
    if problem is None:
        return Teaching(source, start, teacher, source.stated_length, projected=config.init == "teacher")
    sentence = f"{family_name(source.config)} teaches by its answers only: {problem}"
    _check_options(config, sentence)
    echo(sentence)
    reader = other or source
    return Teaching(reader, start, None, reader.stated_length, projected=False)


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
    own = config.without_derived()
    options = layer_options(own) + ["--student-family teacher"] * (config.student_family == "teacher")
    if options:
        raise ToolkitError(
            f"{sentence}; {', '.join(options)} cannot be", expected="options of the prediction stage alone",
            fix=f"leave out {', '.join(options)}",
        )  # fmt: skip


def trim_reader(reader: Source, inputs: Inputs, limit: int, workdir: Path) -> tuple[Source, TrimmedVocabulary | None]:
    """Cut a vocabulary of more than `limit` pieces to those of the texts, and say so; a smaller one stays whole.

    Args:
        reader: the model whose word pieces the student reads.
        inputs: the texts that the student learns from, and for pairs second texts.
        limit: pieces.
        workdir: gets the tokenizer's files.

    Returns:
        The model with the tokenizer that is left, and what is left of the vocabulary, None for all.
    """
    size = int(reader.config.vocab_size)
    if size <= limit:
        return reader, None
    what = f"the vocabulary of {reader.name}, {size:,} word pieces, more than {limit:,} (--vocabulary-limit)"
    texts, pairs = inputs
    try:
        trimmed = select_pieces(reader.tokenizer_dir, texts, pairs or [])
    except ToolkitError as error:
        echo(f"{what}, stays whole: {error.problem}")
        return reader, None
    padding = reader.config.pad_token_id or 0
    if trimmed.renumbered.get(padding) != padding:
        echo(f"{what}, stays whole: its padding stands behind other pieces")
        return reader, None
    echo(f"{what}, is cut to the {len(trimmed.ids):,} that the texts need, and single characters")
    return trimmed_source(reader, trimmed, workdir / "trimmed"), trimmed
