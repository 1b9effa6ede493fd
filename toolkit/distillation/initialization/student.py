"""The first weights of a student: projected from its teacher, random, or read from a directory."""

from __future__ import annotations

import tempfile
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
from toolkit.console import echo
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.initialization.projection import project_from_teacher
from toolkit.errors import ToolkitError, raise_problems, reason_of
from toolkit.models.families import hidden_width
from toolkit.models.loading import Source
from toolkit.models.student import Projections, Shape, StudentPlan, student_config
from toolkit.tasks import Task
from toolkit.training.checkpoints import weights_digest
from toolkit.training.precision import bf16_frozen_weights

PROJECTIONS = "projections.safetensors"
COMPUTED = ("teacher", "random")  # values of --init that name no directory
# Limits of the sample that --init teacher reads. With fewer rows the head fits noise: from a 12-layer teacher 512 rows
# of Rotten Tomatoes start at 72 %, 2,048 at 76 %. 65,536 tokens of BERT-base's states are 4 GB.
SAMPLE_ROWS, SAMPLE_TOKENS = 4096, 65_536
ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SAME = ("model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "hidden_act")
DRAWN = ("classifier.", "bert.pooler.")  # parameters that a general student lacks
EXPECTED_INIT = "teacher, random, or a bundle or directory with a BERT of the same shape and vocabulary"
MIN_SHARED_PIECES = 0.9  # of the teacher's vocabulary, for a student of another vocabulary to be taken


@dataclass(frozen=True)
class ModelPair:
    """A student with the teacher that it learns from.

    Attributes:
        student: a classifier where there is a task, else a plain encoder; in eval mode.
        teacher: in eval mode.
        projections: W_e and W_h.
        mapping: g(1)..g(M).
        init: "teacher", "random", or the directory that the student's first weights come from.
    """

    student: Any
    teacher: Any
    projections: Projections
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
        plan: shape, layer map and where the first weights come from.
        source, teacher: the teacher as it was named, and its model.
        texts: `--init teacher` reads a sample of them.
        task: gives the student its labels; None makes a plain encoder.
        dropout: of the student while it learns.
        shared_projection: one projection for all layers.
        precision: of the teacher's matrix products.
        seed: of random weights and of the sample.

    Raises:
        ToolkitError: a directory that does not hold this student.
    """
    from transformers import BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    config = student_config(source.config, plan.shape, dropout=dropout, task=task)
    levels, width = plan.shape.layers + 1, plan.shape.hidden
    projections = Projections(levels, width, hidden_width(teacher), shared=shared_projection)
    if plan.init not in COMPUTED:
        student = _load_student(plan.init, config, source, projections, head=task is not None)
        return ModelPair(student, teacher, projections, plan.mapping, plan.init)
    # without a task nothing reads the pooler, so that none is drawn, kept untrained and passed for a trained one
    student = BertForSequenceClassification(config) if task else BertModel(config, add_pooling_layer=False)
    student.eval()
    if plan.init == "teacher":
        sample, cpu = _sample(texts, seed), torch.device("cpu")
        with bf16_frozen_weights(teacher.cpu(), precision, cpu, float(texts.lengths.mean())):
            projections.start_from(project_from_teacher(student, teacher, plan.mapping, sample))
    return ModelPair(student, teacher, projections, plan.mapping, plan.init)


def provenance_of(source: Source, init: str) -> dict[str, Origin]:
    """Return, for the manifest, the origins of the teacher and of the directory that training starts from, if any."""
    start = {} if init in COMPUTED else {"start": origin(init)}
    return {"teacher": source.origin, **start}


def save_projections(projections: Projections, staging: Path) -> None:
    """Write the projections beside the student's weights, for the task stage to go on with."""
    save_file({name: value.contiguous() for name, value in projections.state_dict().items()}, staging / PROJECTIONS)


def _sample(texts: TokenizedInputs, seed: int) -> list[dict[str, torch.Tensor]]:
    """Draw random rows, in batches of like length."""
    order = np.random.default_rng(seed).choice(len(texts), min(len(texts), SAMPLE_ROWS), replace=False)
    chosen = order[: max(int((texts.lengths[order].cumsum() <= SAMPLE_TOKENS).sum()), 1)]
    batches = (texts.batch(chosen[rows]) for rows in sorted_batches(texts.lengths[chosen], 64))
    return [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]


def _load_student(directory: str, config: Any, source: Source, projections: Projections, *, head: bool) -> Any:
    """Load a student's weights from a bundle or directory of the same shape; draw a missing head or pooler anew.

    Where its vocabulary numbers much the same pieces otherwise, as MPNet's does BERT's, the rows of its embeddings are
    put in the teacher's order.
    """
    from transformers import BertForSequenceClassification, BertModel

    kind = BertForSequenceClassification if head else BertModel
    options = {} if head else {"add_pooling_layer": False}
    stored_config = copy(config)
    rows, start_config = _match_vocabulary(directory, config, source)
    _check_same_model(directory, start_config, config)
    if rows is not None:
        stored_config.update({"vocab_size": start_config.vocab_size, "pad_token_id": start_config.pad_token_id})
    try:
        student, loading = kind.from_pretrained(directory, config=stored_config, output_loading_info=True, **options)
    except Exception as error:  # transformers, safetensors and torch's reader of .bin files raise their own
        raise ToolkitError(
            f"--init {directory} does not hold this student: {reason_of(error)}", expected=EXPECTED_INIT
        ) from error
    missing = sorted(name for name in loading["missing_keys"] if not (head and name.startswith(DRAWN)))
    raise_problems(
        (f"{name} is missing" for name in missing), subject=f"--init {directory} does not hold this student",
        fix="--init teacher, or the directory of a BERT with all its weights",
    )  # fmt: skip
    student = student.float().eval()
    _load_projections(Path(directory) / PROJECTIONS, projections)
    return student if rows is None else reorder_embeddings(student, kind(config, **options).eval(), rows)


def _check_same_model(directory: str, stored: Any, config: Any) -> None:
    """Check that a stored configuration is the student's: weights alone do not tell one head from two.

    Raises:
        ToolkitError: it differs; all differences are listed.
    """
    names = SAME if stored.model_type == config.model_type else SAME[:1]
    differences = [
        f"its {name} is {getattr(stored, name, None)}, the student's {getattr(config, name)}"
        for name in names if getattr(stored, name, None) != getattr(config, name)
    ]  # fmt: skip
    fix = "--init teacher, or the directory of such a student"
    if stored.model_type == config.model_type and stored.hidden_act == config.hidden_act:
        fix = f"--student {Shape.from_config(stored)}"
    raise_problems(differences, subject=f"--init {directory} is another model than the student", fix=fix)


def _match_vocabulary(directory: str, config: Any, source: Source) -> tuple[np.ndarray | None, Any]:
    """Find the row of the stored word embeddings for each row of the new ones; None where the vocabularies are equal.

    Returns:
        The rows, and the stored student's configuration.

    Raises:
        ToolkitError: fewer than MIN_SHARED_PIECES of the teacher's pieces are in the stored vocabulary.
    """
    with tempfile.TemporaryDirectory() as workdir:
        start = Source(directory, Path(workdir))  # verifies a bundle's hashes
        if start.tokenizer.get_vocab() == source.tokenizer.get_vocab():
            return None, start.config
        rows = map_vocabulary(source.tokenizer, start.tokenizer, config.vocab_size, start.config.vocab_size)
    shared = float((rows >= 0).mean())
    if shared < MIN_SHARED_PIECES:
        raise ToolkitError(
            f"--init {directory} has another vocabulary than {source.name}: its embeddings stand for other words, only "
            f"{100 * shared:.0f} % of the pieces are the same",
            expected=EXPECTED_INIT, fix="--init teacher, or a student distilled from this teacher's pre-trained form",
        )  # fmt: skip
    return rows, start.config


def map_vocabulary(target: Any, source: Any, target_rows: int, source_rows: int) -> np.ndarray:
    """Map each row of an embedding table to the row of another table for the same piece or special role.

    Args:
        target, source: the tokenizers.
        target_rows, source_rows: rows of the tables, which may be fewer or more than their tokenizers' pieces.

    Returns:
        [target_rows] int64, -1 where there is none.
    """
    source_ids, rows = source.get_vocab(), np.full(target_rows, -1, dtype=np.int64)
    pieces = [(row, source_ids.get(piece, -1)) for piece, row in target.get_vocab().items()]
    roles = [(getattr(target, f"{role}_id"), getattr(source, f"{role}_id")) for role in ROLES]
    for target_row, source_row in (*pieces, *(pair for pair in roles if None not in pair)):
        if target_row < target_rows and source_row < source_rows:
            rows[target_row] = source_row
    return rows


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
        projections.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ToolkitError(f"{path} is damaged: {error}", fix=f"make {path.parent} again") from error
    except RuntimeError:  # shapes: it learnt from a teacher of another width, or with other sharing
        echo(f"{path} is for another teacher width or --shared-projection: the projections are drawn new")
