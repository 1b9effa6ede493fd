"""The text that sets an export's scales and vocabulary: never the dev rows, which verify it."""

from __future__ import annotations

from pathlib import Path

from toolkit.bundle.format import Bundle
from toolkit.config import ExportConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import Split, load_split, load_texts
from toolkit.data.sources import has_split
from toolkit.data.texts import read_texts
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

CALIBRATION_ROWS = 2048  # at most; calibration stops far earlier, after enough tokens
SEED = 0


def calibration_text(source: Bundle, config: ExportConfig) -> Split | None:
    """Choose the text that sets the scales.

    Returns:
        At most CALIBRATION_ROWS rows; None where there is no such text, or training has set all scales.

    Raises:
        ToolkitError: there is no text and few-bit embeddings need one.
    """
    if is_quantization_aware(source) and config.embedding_bits == 8:
        echo("trained for int8: rounded as in training")
        return None
    if config.calibration is not None:
        texts = load_texts(source.task, config.calibration, DataOptions.of(config))
    elif (train := train_rows(source.task, config)) is not None:
        texts = train
    elif config.embedding_bits < 8:
        raise ToolkitError(
            f"{config.data} has no train file, and {config.embedding_bits} bits are rounded by the task's text",
            fix="--calibration FILE",
        )
    else:
        echo(
            f"{config.data} has no train file to set int8 scales by: one scale a token, and each weight to its nearest"
        )
        return None
    return texts.subsample(CALIBRATION_ROWS, SEED)


def is_quantization_aware(source: Bundle) -> bool:
    """Return whether a student was trained with int8 rounding: one scale a token, each weight to its nearest."""
    return bool(source.manifest.get("config", {}).get("quantization_aware"))


def train_rows(task: Task, config: ExportConfig) -> Split | None:
    """Load the task's train rows; None where the folder --data has no train file."""
    if config.data is not None and not has_split(config.data, "train"):
        return None
    return load_split(task, "train", config.data, DataOptions.of(config))


def vocabulary_text(task: Task, config: ExportConfig) -> list[list[str]]:
    """Return the texts of the task's train rows, and those of the files of --trim-vocabulary."""
    task_texts: list[str] = []
    more_texts: list[str] = []
    if (train := train_rows(task, config)) is not None:
        task_texts = [*train.texts, *(train.pairs or [])]
    for path in map(Path, config.trim_vocabulary):
        first, second = read_texts(
            path, pairs=task.pair_column is not None and path.suffix != ".txt", options=DataOptions.of(config)
        )
        more_texts += [*first, *(second or [])]
    return [task_texts, more_texts]
