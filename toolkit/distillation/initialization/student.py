"""The first weights of a student: projected from its teacher or another encoder, random, or a directory's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.bundle.manifest import Origin
from toolkit.bundle.provenance import origin
from toolkit.console import echo
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.initialization.encoder import fit_to_teacher, open_encoder, project_from_encoder
from toolkit.distillation.initialization.projection import project_from_teacher
from toolkit.distillation.initialization.released import PROJECTIONS, is_released, rewrite_released
from toolkit.distillation.initialization.vocabulary import shared_rows
from toolkit.errors import ToolkitError, raise_problems, reason_of
from toolkit.models.families import activation_name, hidden_width, model_class
from toolkit.models.loading import Source
from toolkit.models.student import Projections, Shape, StudentPlan, student_config
from toolkit.tasks import Task
from toolkit.training.checkpoints import weights_digest
from toolkit.training.precision import bf16_frozen_weights

COMPUTED = ("teacher", "random")  # values of --init that name no model
# Limits of the sample that --init teacher reads. With fewer rows the head fits noise: from a 12-layer teacher 512 rows
# of Rotten Tomatoes start at 72 %, 2,048 at 76 %. 65,536 tokens of BERT-base's states are 4 GB.
SAMPLE_ROWS, SAMPLE_TOKENS = 4096, 65_536
SAME = ("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")
DRAWN = ("classifier.", "bert.pooler.")  # parameters that a general student lacks
EXPECTED_INIT = "teacher, random, or a model of the student's shape or larger, with the teacher's vocabulary"


@dataclass(frozen=True)
class ModelPair:
    """A student with the teacher that it learns from.

    Attributes:
        student: a classifier where there is a task, else a plain encoder; in eval mode.
        teacher: in eval mode.
        projections: W_e and W_h; None where the teacher gives its answers only.
        mapping: g(1)..g(M); empty in the same case.
        init: "teacher", "random", or the model that the student's first weights come from.
    """

    student: Any
    teacher: Any
    projections: Projections | None
    mapping: tuple[int, ...]
    init: str

    def digests(self) -> dict[str, str]:
        """Hash the weights that the options name: a run resumes only from checkpoints of the same."""
        models = {"teacher": self.teacher} | ({} if self.init in COMPUTED else {"init": self.student})
        return {name: weights_digest(model) for name, model in models.items()}


def initialize_student(
    plan: StudentPlan, source: Source, teacher: Any, texts: TokenizedInputs, task: Task | None, *,
    dropout: float = 0.0, shared_projection: bool = False, precision: str = "auto", seed: int = 42,
) -> ModelPair:  # fmt: skip
    """Make the student, a classifier where there is a task, and its projections.

    Args:
        plan: shape, layer map, family and where the first weights come from.
        source, teacher: the teacher as it was named, and its model.
        texts: a projection reads a sample of them.
        task: gives the student its labels; None makes a plain encoder.
        dropout: of the student while it learns.
        shared_projection: one projection for all layers.
        precision: of the teacher's matrix products.
        seed: of random weights and of the sample.

    Raises:
        ToolkitError: a directory that neither holds this student nor an encoder that it can be projected from.
    """
    torch.manual_seed(seed)
    configured = partial(student_config, source.config, plan.shape, dropout=dropout, task=task, family=plan.family)
    levels, width, head = plan.shape.layers + 1, plan.shape.hidden, task is not None
    projections = Projections(levels, width, hidden_width(teacher), shared=shared_projection)
    if plan.init not in COMPUTED:
        student = _start_from_model(
            plan, configured, source, teacher, texts, projections, head=head, precision=precision, seed=seed
        )
        return ModelPair(student, teacher, projections, plan.mapping, plan.init)
    config = configured()
    student = draw_student(config, head=head)
    same_type = config.model_type == teacher.config.model_type
    if plan.init == "teacher" and same_type and plan.shape == Shape.from_config(teacher.config):
        _copy_teacher(student, teacher, projections)
    elif plan.init == "teacher":
        with _frozen(teacher, precision, texts):
            projections.start_from(project_from_teacher(student, teacher, plan.mapping, _sample(texts, seed)))
    return ModelPair(student, teacher, projections, plan.mapping, plan.init)


def _start_from_model(
    plan: StudentPlan, configured: Callable[..., Any], source: Source, teacher: Any, texts: TokenizedInputs,
    projections: Projections, *, head: bool, precision: str, seed: int,
) -> Any:  # fmt: skip
    """Load the student from a model of its own shape, or project it from another encoder."""
    with tempfile.TemporaryDirectory() as workdir:
        directory, name = Path(plan.init), plan.init
        if is_released(directory):
            name = str(rewrite_released(directory, Path(workdir) / "released"))
        start = Source(name, Path(workdir))  # verifies a bundle's hashes
        config = configured(start=start.config)
        if all(getattr(start.config, entry, None) == getattr(config, entry) for entry in SAME):
            return load_student(start, plan.init, config, source, projections, head=head)
        encoder = open_encoder(start, source, plan.shape, plan.init)
    config.hidden_act = activation_name(encoder.config)
    student, sample = draw_student(config, head=head), _sample(texts, seed)
    with _frozen(encoder, precision, texts):
        project_from_encoder(student, encoder, sample)
    with _frozen(teacher, precision, texts):
        projections.start_from(fit_to_teacher(student, teacher, plan.mapping, sample))
    echo(f"the student starts as a projection of {plan.init}")
    return student


def _frozen(model: Any, precision: str, texts: TokenizedInputs) -> AbstractContextManager[Any]:
    return bf16_frozen_weights(model.cpu(), precision, torch.device("cpu"), float(texts.lengths.mean()))


def draw_student(config: Any, *, head: bool) -> Any:
    """Draw a student at random: a classifier, or an encoder without the pooler, which nothing reads without a task."""
    return model_class(config, head=head)(config, **({} if head else {"add_pooling_layer": False})).eval()


def _copy_teacher(student: Any, teacher: Any, projections: Projections) -> None:
    """Give a student of its teacher's own architecture and shape the teacher's weights."""
    weights, width = teacher.state_dict(), hidden_width(teacher)
    student.load_state_dict({name: weights[name] for name in student.state_dict()})
    projections.start_from([(torch.eye(width), torch.zeros(width))] * projections.levels)


def provenance_of(source: Source, init: str) -> dict[str, Origin]:
    """Return, for the manifest, the origins of the teacher and of the directory that training starts from, if any."""
    start = {} if init in COMPUTED else {"start": origin(init)}
    return {"teacher": source.origin, **start}


def save_projections(projections: Projections, staging: Path) -> None:
    """Write the projections beside the student's weights, for the task stage to go on with."""
    save_file({name: value.contiguous() for name, value in projections.state_dict().items()}, staging / PROJECTIONS)


def sample_rows(texts: TokenizedInputs, seed: int) -> list[np.ndarray]:
    """Draw random rows, in batches of like length."""
    order = np.random.default_rng(seed).choice(len(texts), min(len(texts), SAMPLE_ROWS), replace=False)
    chosen = order[: max(int((texts.lengths[order].cumsum() <= SAMPLE_TOKENS).sum()), 1)]
    return [chosen[rows] for rows in sorted_batches(texts.lengths[chosen], 64)]


def tensors(texts: TokenizedInputs, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Give rows as a padded batch [B, L]."""
    return {name: torch.from_numpy(array) for name, array in texts.batch(rows).items()}


def _sample(texts: TokenizedInputs, seed: int) -> list[dict[str, torch.Tensor]]:
    return [tensors(texts, rows) for rows in sample_rows(texts, seed)]


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
        source: the teacher.
        projections: changed in place; None where there is no teacher to project to.
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
