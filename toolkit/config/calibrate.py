"""Options of `toolkit calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, column_option, option, required, skip_option


@dataclass(frozen=True)
class CalibrateConfig(Config):
    """Options of `toolkit calibrate`."""

    bundle: str = argument("bundle made by finetune, distill or export; its calibration is replaced")
    data: str = required("file of labelled rows that neither trained nor chose the model", "Data", "FILE")
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    skip_bad_rows: bool = skip_option()
    accurate: float | None = option(
        None, "find the lowest score from which on at least this share of the answers is right", "Threshold", "SHARE"
    )
    agree: float | None = option(
        None, "find the lowest score from which on at least this share is --teacher's answer", "Threshold", "SHARE"
    )
    per_class: bool = option(
        False, "find such a score for each label too, which counts instead; a label with too few answers gets none and "
        "is never sure", "Threshold",
    )  # fmt: skip
    teacher: str | None = option(None, "bundle of the same labels that --agree compares with", "Threshold", "DIR")
    confidence: float = option(
        0.95, "probability that a threshold keeps its promise, over draws of rows", "Threshold", "SHARE"
    )

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        for name in ("accurate", "agree", "confidence"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                yield f"--{name} {value}: expected more than 0 and less than 1"
        if (self.agree is None) != (self.teacher is None):
            yield "--agree and --teacher: expected both or neither"
        if self.accurate is None and self.agree is None and self.confidence != CalibrateConfig.confidence:
            yield f"--confidence {self.confidence}: expected --accurate or --agree, which it is about"
        if self.accurate is None and self.agree is None and self.per_class:
            yield "--per-class: expected --accurate or --agree, which it is about"
