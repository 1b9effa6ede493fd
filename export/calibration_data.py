"""Which text an export learns its scales and its vocabulary from: never the dev rows, which judge it."""

from __future__ import annotations

from pathlib import Path

from toolkit.bundle.format import Bundle
from toolkit.config import ExportConfig
from toolkit.console import echo
from toolkit.data.datasets import Split, load_split, load_texts
from toolkit.data.readers import SUFFIXES, read_texts
from toolkit.errors import ToolkitError

CALIBRATION_ROWS = 2048  # at most; far fewer hold the tokens that calibration takes
SEED = 0


def calibration_text(source: Bundle, config: ExportConfig) -> Split | None:
    """Text to set scales by; None where there is none, or where training has settled all of them."""
    if is_quantization_aware(source) and config.embedding_bits == 8:
        echo("trained for int8: rounded as in training")
        return None
    if config.calibration is not None:
        found = load_texts(source.task, config.calibration)
    elif (train := train_rows(source, config.data)) is not None:
        found = train
    elif config.embedding_bits < 8:
        raise ToolkitError(
            f"{config.data} has no train file, and {config.embedding_bits} bits are rounded by the task's text",
            fix="--calibration FILE",
        )
    else:
        echo(f"{config.data} has no train file to calibrate on: one scale a token, and each weight to its nearest")
        return None
    return found.head(CALIBRATION_ROWS, SEED)


def is_quantization_aware(source: Bundle) -> bool:
    """Whether a student met int8 rounding while it learnt: one scale a token, each weight to its nearest."""
    return bool(source.manifest.get("config", {}).get("quantization_aware"))


def train_rows(source: Bundle, data: str | None) -> Split | None:
    """The task's train rows; None where the folder given holds none."""
    if data is not None and not any((Path(data) / f"train{suffix}").is_file() for suffix in SUFFIXES):
        return None
    return load_split(source.task, "train", data)


def vocabulary_text(source: Bundle, config: ExportConfig) -> list[list[str]]:
    """The task's train rows, and the texts of the files of --trim-vocabulary."""
    found: list[list[str]] = [[], []]
    if (train := train_rows(source, config.data)) is not None:
        found[0] = [*train.texts, *(train.pairs or [])]
    for path in map(Path, config.trim_vocabulary):
        first, second = read_texts(path, pairs=source.task.pair_column is not None and path.suffix != ".txt")
        found[1] += [*first, *(second or [])]
    return found
