"""The first weights of a student: projected from its teacher or another encoder, random, or a directory's."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.bundle.manifest import Origin
from toolkit.bundle.provenance import origin
from toolkit.config import COMPUTED
from toolkit.console import echo
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.initialization.encoder import fit_head
from toolkit.distillation.initialization.projection import project_from_teacher
from toolkit.distillation.initialization.released import PROJECTIONS
from toolkit.distillation.initialization.statistics import bytes_of_token
from toolkit.distillation.initialization.vocabulary import shared_rows
from toolkit.errors import ToolkitError, raise_problems, reason_of
from toolkit.models.families import activation_name, hidden_width, model_class, position_count
from toolkit.models.loading import LONGEST, Source, weights_digest
from toolkit.models.student import Projections, Shape, StudentPlan, student_config
from toolkit.tasks import Task
from toolkit.training.precision import bf16_frozen_weights

# Limits of the sample that --init teacher reads. With fewer rows the head fits noise: from a 12-layer teacher 512 rows
# of Rotten Tomatoes start at 72 %, 2,048 at 76 %. A TinyBERT6 of BERT-base needs the bytes for all tokens, a student of
# more layers or of a wider teacher reads fewer.
SAMPLE_ROWS, SAMPLE_TOKENS, SAMPLE_BYTES = 4096, 65_536, 5_100_000_000
SAME = ("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")
DRAWN = ("classifier.", "bert.pooler.")  # parameters that a general student lacks
EXPECTED_INIT = "teacher, random, or a model of the student's shape or larger"


@dataclass(frozen=True)
class ModelPair:
    """A student with the models that it learns from.

    Attributes:
        student: a classifier where there is a task, else a plain encoder; in eval mode.
        teacher: in eval mode; None where a file has its answers.
        layer_teacher: the model whose layers the student learns: the teacher, the encoder that it is projected from, or
            None where it learns from answers only.
        projections: W_e and W_h; None in the last case.
        mapping: g(1)..g(M); empty in the same case.
        init: "teacher", "random", or the model that the student's first weights come from.
    """

    student: Any
    teacher: Any
    layer_teacher: Any
    projections: Projections | None
    mapping: tuple[int, ...]
    init: str

    def digests(self) -> dict[str, str]:
        """Hash the weights that the options name: a run resumes only from checkpoints of the same."""
        models = {"teacher": self.teacher, "init": None if self.init in COMPUTED else self.student}
        return {name: weights_digest(model) for name, model in models.items() if model is not None}


def initialize_student(
    plan: StudentPlan, reader: Source, teacher: Any, layer_teacher: Any, texts: TokenizedInputs, task: Task | None, *,
    start: Source | None = None, answers: Callable[[], np.ndarray] | None = None, dropout: float = 0.0,
    shared_projection: bool = False, precision: str = "auto", seed: int = 42,
) -> ModelPair:  # fmt: skip
    """Make the student, a classifier where there is a task, and its projections.

    Args:
        plan: shape, layer map, family and where the first weights come from.
        reader: the model whose word pieces it reads.
        teacher, layer_teacher: as in `ModelPair`.
        texts: n inputs; a projection reads a sample of them.
        task: gives the student its labels; None makes a plain encoder.
        start: the model that `plan.init` names; None where it names none.
        answers: gives the logits [n, C] of the texts, which the head of a student of another encoder is fitted to.
        dropout: of the student while it learns.
        shared_projection: one projection for all layers.
        precision: of the matrix products of the model that is projected.
        seed: of random weights and of the sample.

    Raises:
        ToolkitError: a directory that does not hold this student.
    """
    torch.manual_seed(seed)
    config, head = _configured(plan, reader, task, start, dropout), task is not None
    projections = None
    if layer_teacher is not None:
        levels, width = plan.shape.layers + 1, plan.shape.hidden
        projections = Projections(levels, width, hidden_width(layer_teacher), shared=shared_projection)
    if start is not None and is_student(start, plan):
        student = load_student(start, plan.init, config, reader, projections, head=head)
        return ModelPair(student, teacher, layer_teacher, projections, plan.mapping, plan.init)
    if task is not None and answers is not None:  # the positions of its teacher's layers are not needed
        config.max_position_embeddings -= max(position_count(config) - max(task.max_length, LONGEST), 0)
    student = draw_student(config, head=head)
    models = ModelPair(student, teacher, layer_teacher, projections, plan.mapping, plan.init)
    same_type = config.model_type == reader.config.model_type
    if plan.init == "teacher" and same_type and plan.shape == Shape.from_config(teacher.config):
        _copy_teacher(models)
    elif plan.init != "random":
        _project(models, texts, answers, precision, seed)
    return models


def _project(
    models: ModelPair, texts: TokenizedInputs, answers: Callable[[], np.ndarray] | None, precision: str, seed: int
) -> None:
    """Project the model whose layers the student learns, and fit its head to answers, where they are given."""
    assert models.projections is not None, "a projection is of a model whose layers are known"
    model, tokens = models.layer_teacher.cpu(), float(texts.lengths.mean())
    most = SAMPLE_BYTES // bytes_of_token(models.mapping, hidden_width(model))
    sample = sample_rows(texts, seed, min(SAMPLE_TOKENS, most))
    batches = [_tensors(texts, rows) for rows in sample]
    with bf16_frozen_weights(model, precision, torch.device("cpu"), tokens):
        models.projections.start_from(project_from_teacher(models.student, model, models.mapping, batches))
    if answers is not None:
        fit_head(models.student, batches, torch.from_numpy(answers()[np.concatenate(sample)]).float())


def _configured(plan: StudentPlan, reader: Source, task: Task | None, start: Source | None, dropout: float) -> Any:
    config = student_config(
        reader.config, plan.shape, dropout=dropout, task=task, family=plan.family, start=start and start.config
    )
    if start is not None:
        config.hidden_act = activation_name(start.config)
    return config


def is_student(start: Source, plan: StudentPlan) -> bool:
    """Return whether a model has a student's shape and family: its weights are taken, those of others projected."""
    config = student_config(start.config, plan.shape, dropout=0.0, family=plan.family)
    return all(getattr(start.config, name, None) == getattr(config, name) for name in SAME)


def draw_student(config: Any, *, head: bool) -> Any:
    """Draw a student at random: a classifier, or an encoder without the pooler, which nothing reads without a task."""
    return model_class(config, head=head)(config, **({} if head else {"add_pooling_layer": False})).eval()


def _copy_teacher(models: ModelPair) -> None:
    """Give a student of its teacher's own architecture and shape the teacher's weights."""
    assert models.projections is not None, "a copy is of a model whose layers are known"
    weights, width = models.teacher.state_dict(), hidden_width(models.teacher)
    models.student.load_state_dict({name: weights[name] for name in models.student.state_dict()})
    models.projections.start_from([(torch.eye(width), torch.zeros(width))] * models.projections.levels)


def provenance_of(source: Source | None, init: str) -> dict[str, Origin]:
    """Return, for the manifest, the origins of the teacher and of the directory that training starts from, if any."""
    teacher = {} if source is None else {"teacher": source.origin}
    return teacher if init in COMPUTED else teacher | {"start": origin(init)}


def save_projections(projections: Projections, staging: Path) -> None:
    """Write the projections beside the student's weights, for the task stage to go on with."""
    save_file({name: value.contiguous() for name, value in projections.state_dict().items()}, staging / PROJECTIONS)


def sample_rows(texts: TokenizedInputs, seed: int, tokens: int) -> list[np.ndarray]:
    """Draw random rows of at most so many tokens, in batches of like length."""
    order = np.random.default_rng(seed).choice(len(texts), min(len(texts), SAMPLE_ROWS), replace=False)
    chosen = order[: max(int((texts.lengths[order].cumsum() <= tokens).sum()), 1)]
    return [chosen[rows] for rows in sorted_batches(texts.lengths[chosen], 64)]


def _tensors(texts: TokenizedInputs, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Give rows as a padded batch [B, L]."""
    return {name: torch.from_numpy(array) for name, array in texts.batch(rows).items()}


def load_student(
    start: Source, name: str, config: Any, source: Source, projections: Projections | None, *, head: bool
) -> Any:
    """Load a student's weights from a model of the same shape; draw a missing head or pooler anew.

    Where its vocabulary numbers much the same pieces otherwise, as MPNet's does BERT's, the rows of its embeddings are
    put in the teacher's order.

    Args:
        start: the model as it was opened; projections in its directory are taken along.
        name: of that model, as on the command line.
        config: of the student.
        source: the model whose word pieces it reads.
        projections: changed in place; None where no layers are learnt.
        head: whether the student is a classifier.

    Raises:
        ToolkitError: weights that are missing or cannot be read, or another vocabulary.
    """
    options = {} if head else {"add_pooling_layer": False}
    stored_config, rows = copy(config), None
    if start.tokenizer.get_vocab() != source.tokenizer.get_vocab():
        rows = shared_rows(start, source, name)
        stored_config.update({"vocab_size": start.config.vocab_size, "pad_token_id": start.config.pad_token_id})
    try:
        student, loading = model_class(config, head=head).from_pretrained(
            start.name, config=stored_config, output_loading_info=True, **options
        )
    except Exception as error:  # transformers, safetensors and torch's reader of .bin files raise their own
        raise ToolkitError(
            f"--init {name} does not hold this student: {reason_of(error)}", expected=EXPECTED_INIT
        ) from error
    missing = sorted(tensor for tensor in loading["missing_keys"] if not (head and tensor.startswith(DRAWN)))
    raise_problems(
        (f"{tensor} is missing" for tensor in missing), subject=f"--init {name} does not hold this student",
        fix="--init teacher, or the directory of a student with all its weights",
    )  # fmt: skip
    student = student.float().eval()
    if projections is not None:
        _load_projections(Path(start.name) / PROJECTIONS, projections)
    return student if rows is None else reorder_embeddings(student, draw_student(config, head=head), rows)


def reorder_embeddings(student: Any, fresh: Any, rows: np.ndarray) -> Any:
    """Copy the student's weights into `fresh`, its word embeddings by `rows`; a row of -1 stays as it was drawn."""
    table = fresh.get_input_embeddings().weight.detach().clone()
    shared = torch.from_numpy(rows >= 0)
    table[shared] = student.get_input_embeddings().weight.detach()[torch.from_numpy(rows)[shared]]
    words = next(name for name in student.state_dict() if name.endswith("word_embeddings.weight"))
    fresh.load_state_dict({**student.state_dict(), words: table})
    count = f"{int(shared.sum()):,} of {len(table):,}"
    echo(f"its word embeddings are put in the teacher's order: {count} pieces are there")
    return fresh


def _load_projections(path: Path, projections: Projections) -> None:
    if not path.exists():
        return
    try:
        stored = load_file(path)
        if len(stored) == 2 and len(projections.maps) > 1:  # one map for all levels, as released students may have it
            stored = {f"maps.{level}.{part}": stored[f"maps.0.{part}"]
                      for level in range(projections.levels) for part in ("weight", "bias")}  # fmt: skip
        projections.load_state_dict(stored)
    except SafetensorError as error:
        raise ToolkitError(f"{path} is damaged: {error}", fix=f"make {path.parent} again") from error
    except RuntimeError:  # shapes: it learnt from a teacher of another width, or with other sharing
        echo(f"{path} is for another teacher width or --shared-projection: the projections are drawn new")
