"""Options of `toolkit export`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, at_least, choice_flags, option, required

PRECISIONS = ("int8", "fp16", "fp32")
EMBEDDING_BITS = (8, 4, 2)
LAYOUTS = ("ort", "triton")


@dataclass(frozen=True)
class ExportConfig(Config):
    """Options of `toolkit export`."""

    source: str = argument("PyTorch bundle to export, made by distill or finetune")
    out: str = required("directory to write the ONNX bundle to")
    precision: str = choice_flags(
        "int8", int8="8-bit linear layers and embeddings, for CPUs [default]", fp16="half precision, for CUDA",
        fp32="as trained",
    )  # fmt: skip
    layout: str = option("ort", "of --out: ort, as ORTModel classes open it, or triton, a model in a Triton repository")
    data: str | None = option(None, "folder with the dev file to verify on [default: the task's own data]")
    max_drop: float = option(0.5, "points of the task's metric that int8, or fewer word pieces, may lose on dev")
    calibration: str | None = option(
        None, "text to set int8 scales by: .txt, one a line, or a table [default: the task's train rows]"
    )
    embedding_bits: int = option(
        8, "of each number of the word embeddings in int8: 8, 4, or 2 with 4 for frequent pieces"
    )
    trim_vocabulary: tuple[str, ...] = option(
        (),
        "keep only word pieces that this text and the task's train rows need, and positions up to the longest "
        "input; may be given more than once",
    )
    max_pieces: int | None = option(
        None,
        "with --trim-vocabulary: at most so many word pieces, those most frequent in that text and the train rows, "
        "which count alike [default: all]",
    )
    tune: bool = option(
        False, "build it in several ways, int8 and fp32, time them on this CPU and keep the fastest that passes"
    )

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if self.precision not in PRECISIONS:
            yield f"precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
        if self.layout not in LAYOUTS:
            yield f"--layout {self.layout}: expected {' or '.join(LAYOUTS)}"
        if not self.max_drop >= 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"
        if self.embedding_bits not in EMBEDDING_BITS:
            yield f"--embedding-bits {self.embedding_bits}: expected 8, 4 or 2"
        if self.max_pieces is not None:
            yield from at_least(1, max_pieces=self.max_pieces)
            if not self.trim_vocabulary:
                yield f"--max-pieces {self.max_pieces}: expected --trim-vocabulary, which it bounds"
        if self.precision != "int8":
            named = (
                ("--embedding-bits", self.embedding_bits != 8), ("--calibration", self.calibration is not None),
                ("--tune", self.tune),
            )  # fmt: skip
            yield from (f"{name} with --{self.precision}: expected --int8" for name, given in named if given)
