"""How a student starts: projected from its teacher, at random, or from a bundle such as general distillation's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.bundle.provenance import origin
from toolkit.config import DistillConfig
from toolkit.console import echo
from toolkit.data.batching import sorted_batches
from toolkit.data.tokenization import TokenizedInputs
from toolkit.distillation.initialization.projection import project_from_teacher
from toolkit.errors import ToolkitError
from toolkit.models.families import hidden_width
from toolkit.models.loading import Source
from toolkit.models.student import Projections, Shape, student_config
from toolkit.tasks import Task
from toolkit.training.precision import bf16_frozen_weights, resolve_precision

PROJECTIONS = "projections.safetensors"
# At most, for --init teacher. With fewer rows the head is fitted to luck: from a 12-layer teacher 512 rows of Rotten
# Tomatoes start at 72 %, 2,048 at 76 %. 65,536 tokens of BERT-base's states are 4 GB.
SAMPLE_ROWS, SAMPLE_TOKENS = 4096, 65_536
ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
INIT = "teacher, random, or a bundle or directory with a BERT of the same shape and vocabulary"
FEWEST_SHARED = 0.9  # of a vocabulary's pieces, for a student to change over to it


def initialize_student(
    config: DistillConfig,
    source: Source,
    teacher: Any,
    mapping: Sequence[int],
    texts: TokenizedInputs,
    task: Task | None,
) -> tuple[Any, Projections]:
    """The student, a classifier where there is a task and a plain encoder elsewhere, and its projections.

    Args:
        config: says the shape, and `init` where to start.
        source, teacher: what is learnt from.
        mapping: g(1)..g(M).
        texts: a sample of which `--init teacher` reads.
        task: gives the student its labels.

    Raises:
        ToolkitError: a student that cannot start there.
    """
    from transformers import BertForSequenceClassification, BertModel

    shape = Shape.parse(config.student)
    torch.manual_seed(config.seed)
    wanted = student_config(source.config, shape, dropout=config.dropout, task=task)
    shared = config.shared_projection
    projections = Projections(shape.layers + 1, shape.hidden, hidden_width(teacher), shared=shared)
    if config.init not in ("teacher", "random"):
        return _load_student(config.init, wanted, source, projections, head=task is not None), projections
    # without a task nothing reads the pooler, so that none is drawn, kept untrained and passed for a trained one
    student = BertForSequenceClassification(wanted) if task else BertModel(wanted, add_pooling_layer=False)
    if config.init == "teacher":
        sample, cpu = _sample(texts, config.seed), torch.device("cpu")
        with bf16_frozen_weights(
            teacher.cpu(), resolve_precision(config.precision, cpu, float(texts.lengths.mean())), cpu
        ):
            projections.start_from(project_from_teacher(student.eval(), teacher, mapping, sample))
    return student.eval(), projections


def provenance_of(config: DistillConfig, source: Source) -> dict[str, Any]:
    """For the manifest: the teacher, and the student that training started from, where there is one."""
    start = {} if config.init in ("teacher", "random") else {"start": origin(config.init)}
    return {"teacher": source.origin, **start}


def save_projections(projections: Projections, staging: Path) -> None:
    """Write them beside the student's weights, for the task stage to go on with."""
    save_file({name: value.contiguous() for name, value in projections.state_dict().items()}, staging / PROJECTIONS)


def _sample(texts: TokenizedInputs, seed: int) -> list[dict[str, torch.Tensor]]:
    """Random rows, in batches of like length."""
    order = np.random.default_rng(seed).choice(len(texts), min(len(texts), SAMPLE_ROWS), replace=False)
    chosen = order[: max(int((texts.lengths[order].cumsum() <= SAMPLE_TOKENS).sum()), 1)]
    batches = (texts.batch(chosen[rows]) for rows in sorted_batches(texts.lengths[chosen], 64))
    return [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]


def _load_student(directory: str, wanted: Any, source: Source, projections: Projections, *, head: bool) -> Any:
    """A student's weights from a bundle or directory of the same shape; a missing head is drawn new.

    Where its vocabulary has other numbers for much the same pieces, the rows of its embeddings are put in order: BERT
    and MPNet differ so.
    """
    from transformers import BertForSequenceClassification, BertModel

    kind = BertForSequenceClassification if head else BertModel
    options: dict[str, Any] = {} if head else {"add_pooling_layer": False}
    config = copy(wanted)
    rows, theirs = _order(directory, wanted, source)
    if rows is not None:
        config.update({"vocab_size": theirs.vocab_size, "pad_token_id": theirs.pad_token_id})
    try:
        student = kind.from_pretrained(directory, config=config, use_safetensors=True, **options).eval()
    except (OSError, ValueError, RuntimeError) as error:
        problem = str(error).strip().splitlines()[0]
        raise ToolkitError(f"--init {directory} does not hold this student: {problem}", expected=INIT) from error
    _load_projections(Path(directory) / PROJECTIONS, projections)
    return student if rows is None else reorder_embeddings(student, kind(wanted, **options).eval(), rows)


def _order(directory: str, wanted: Any, source: Source) -> tuple[np.ndarray | None, Any]:
    """Which rows of a given student's word embeddings the wanted one takes, None for all as they are; its config.

    Raises:
        ToolkitError: fewer than FEWEST_SHARED of the teacher's pieces are in its vocabulary.
    """
    with tempfile.TemporaryDirectory() as workdir:
        given = Source(directory, Path(workdir))  # verifies a bundle's hashes
        if given.tokenizer.get_vocab() == source.tokenizer.get_vocab():
            return None, given.config
        rows = map_vocabulary(source.tokenizer, given.tokenizer, wanted.vocab_size, given.config.vocab_size)
    shared = float((rows >= 0).mean())
    if shared < FEWEST_SHARED:
        raise ToolkitError(
            f"--init {directory} has another vocabulary than {source.name}: its embeddings stand for other words, only "
            f"{100 * shared:.0f} % of the pieces are the same",
            expected=INIT, fix="--init teacher, or a student distilled from this teacher's pre-trained form",
        )  # fmt: skip
    return rows, given.config


def map_vocabulary(wanted: Any, given: Any, size: int, given_size: int) -> np.ndarray:
    """For each row of an embedding table, the row of another one that stands for the same piece or role.

    Args:
        wanted, given: the tokenizers.
        size, given_size: rows of the tables, which may be fewer or more than their tokenizers' pieces.

    Returns:
        [size] int64, -1 where there is none.
    """
    theirs, rows = given.get_vocab(), np.full(size, -1, dtype=np.int64)
    pairs = [(row, theirs.get(piece, -1)) for piece, row in wanted.get_vocab().items()]
    roles = [tuple(getattr(one, f"{role}_id") for one in (wanted, given)) for role in ROLES]
    for row, found in (*pairs, *(pair for pair in roles if None not in pair)):
        if row < size and found < given_size:
            rows[row] = found
    return rows


def reorder_embeddings(student: Any, fresh: Any, rows: np.ndarray) -> Any:
    """`fresh` with the student's weights, its word embeddings by `rows`; a row of -1 stays as it was drawn."""
    table = fresh.get_input_embeddings().weight.detach().clone()
    known = torch.from_numpy(rows >= 0)
    table[known] = student.get_input_embeddings().weight.detach()[torch.from_numpy(rows)[known]]
    words = next(name for name in student.state_dict() if name.endswith("word_embeddings.weight"))
    fresh.load_state_dict({**student.state_dict(), words: table})
    echo(f"its word embeddings are put in the teacher's order: {int(known.sum()):,} of {len(table):,} pieces are there")
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
