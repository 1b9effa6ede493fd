"""Options of `toolkit export`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, flags, option, required

PRECISIONS = ("int8", "fp32")
LAYOUTS = ("ort", "triton")


@dataclass(frozen=True)
class ExportConfig(Config):
    """Options of `toolkit export`."""

    source: str = argument("PyTorch bundle to export, made by distill or finetune")
    out: str = required("directory to write the ONNX bundle to")
    precision: str = flags("int8", int8="8-bit linear layers and embeddings, for CPUs [default]", fp32="as trained")
    layout: str = option("ort", "of --out: ort, as ORTModel classes open it, or triton, a model in a Triton repository")
    data: str | None = option(None, "folder with the dev file to verify on [default: the task's own data]")
    max_drop: float = option(0.5, "points of the task's metric that int8 may lose on dev")

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if self.precision not in PRECISIONS:
            yield f"precision {self.precision}: expected one of {', '.join(PRECISIONS)}"
        if self.layout not in LAYOUTS:
            yield f"--layout {self.layout}: expected {' or '.join(LAYOUTS)}"
        if not self.max_drop >= 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"
