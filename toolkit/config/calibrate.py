"""Options of `toolkit calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import Config, argument, column_option, required, skip_option


@dataclass(frozen=True)
class CalibrateConfig(Config):
    """Options of `toolkit calibrate`."""

    bundle: str = argument("bundle made by finetune, distill or export; its calibration is replaced")
    data: str = required("file of labelled rows that neither trained nor chose the model", "Data", "FILE")
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    skip_bad_rows: bool = skip_option()

    def problems(self) -> Iterator[str]:
        """List each problem in words: there is none, the data say the rest."""
        yield from ()
