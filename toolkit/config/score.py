"""Options of `toolkit score`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.base import Config, argument, at_least, option, overwrite_option, required, skip_option

OUTPUTS = (".parquet", ".csv", ".jsonl")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class ScoreConfig(Config):
    """Options of `toolkit score`."""

    model: str = argument("bundle, or a Hugging Face classifier: a directory or a name on the hub", "MODEL")
    out: str = required("file to write: .parquet, .csv or .jsonl", "Output", "FILE")
    input: tuple[str, ...] = option(
        (), "texts to score: .txt, .csv, .tsv, .jsonl, .json or .parquet, or a glob; may be repeated", "Input", "FILE"
    )
    text_column: str | None = option(None, "column of the text [default: guessed, and said]", "Input", "COLUMN")
    pair_column: str | None = option(
        None, "column of the second text, for pairs [default: guessed, and said]", "Input", "COLUMN"
    )
    skip_bad_rows: bool = skip_option("Input")
    raw: bool = option(False, "write logits instead of probabilities", "Output")
    overwrite: bool = overwrite_option("file")
    device: str = option(
        "auto", "cpu, cuda, or auto: a GPU for PyTorch models where there is one, else the CPU", "Speed", "DEVICE"
    )
    workers: int | None = option(
        None, "threads that run the model on CPUs, one each [default: the CPUs that this process may use]", "Speed"
    )

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        if not self.input:
            yield "no --input: expected files of texts"
        if Path(self.out).suffix not in OUTPUTS:
            yield f"--out {self.out}: expected a name that ends in {', '.join(OUTPUTS)}"
        if self.device not in DEVICES:
            yield f"--device {self.device}: expected one of {', '.join(DEVICES)}"
        yield from at_least(1, workers=self.workers)
