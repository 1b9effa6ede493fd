"""Options of `toolkit export`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import (
    Config,
    argument,
    at_least,
    choice_flags,
    column_option,
    data_problems,
    dev_share_option,
    option,
    overwrite_option,
    required,
    skip_option,
)

PRECISIONS = ("int8", "fp16", "fp32")
EMBEDDING_BITS = (8, 4, 2)
LAYOUTS = ("ort", "triton")


@dataclass(frozen=True)
class ExportConfig(Config):
    """Options of `toolkit export`."""

    source: str = argument("PyTorch bundle to export, made by distill or finetune")
    out: str = required("directory to write the ONNX bundle to", "Output", "DIR")
    precision: str = choice_flags(
        "int8", "Precision", int8="8-bit linear layers and embeddings, for CPUs [default]",
        fp16="half precision, for CUDA", fp32="as trained",
    )  # fmt: skip
    layout: str = option(
        "ort", "layout of --out: ort, as ORTModel classes open it, or triton, a model in a Triton repository", "Output"
    )
    data: str | None = option(
        None, "data to verify on, as finetune takes it [default: the task's own]", "Verification", "DATA"
    )
    text_column: str | None = column_option("text", "Verification")
    pair_column: str | None = column_option("pair", "Verification")
    label_column: str | None = column_option("label", "Verification")
    dev_share: float | None = dev_share_option("Verification")
    max_drop: float = option(
        0.5,
        "percentage points of the task's metric that int8, or fewer word pieces, may lose on dev",
        "Verification",
        "POINTS",
    )
    skip_bad_rows: bool = skip_option("Verification")
    calibration: str | None = option(
        None,
        "text to set int8 scales by: .txt, one a line, or a table [default: the task's train rows]",
        "Precision",
        "FILE",
    )
    embedding_bits: int = option(
        8, "bits of each number of the word embeddings in int8: 8, 4, or 2 with 4 for frequent pieces", "Precision"
    )
    trim_vocabulary: tuple[str, ...] = option(
        (),
        "keep only word pieces that this text and the task's train rows need, and positions up to the longest "
        "input; may be given more than once",
        "Size and speed",
        "FILE",
    )
    max_pieces: int | None = option(
        None,
        "with --trim-vocabulary: at most so many word pieces, those most frequent in that text and the train rows, "
        "which count alike [default: all]",
        "Size and speed",
    )
    tune: bool = option(
        False,
        "build the graph in several ways, int8 and fp32, time them on this CPU and keep the fastest that passes",
        "Size and speed",
    )
    confidence_data: str | None = option(
        None,
        "labelled rows that neither trained nor chose the model, to calibrate its scores by [default: a half of test, "
        "or of dev where train's rows chose it]",
        "Scores",
        "FILE",
    )
    overwrite: bool = overwrite_option()

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        if self.precision not in PRECISIONS:
            yield f"precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
        if self.layout not in LAYOUTS:
            yield f"--layout {self.layout}: expected {' or '.join(LAYOUTS)}"
        if not self.max_drop >= 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"
        if self.embedding_bits not in EMBEDDING_BITS:
            yield f"--embedding-bits {self.embedding_bits}: expected 8, 4 or 2"
        yield from data_problems(self)
        yield from at_least(1, max_pieces=self.max_pieces)
        if self.max_pieces is not None and not self.trim_vocabulary:
            yield f"--max-pieces {self.max_pieces}: expected --trim-vocabulary, which it bounds"
        if self.precision != "int8":
            options = {
                "--embedding-bits": self.embedding_bits != 8, "--calibration": self.calibration is not None,
                "--tune": self.tune,
            }  # fmt: skip
            yield from (f"{name} with --{self.precision}: expected --int8" for name, given in options.items() if given)
