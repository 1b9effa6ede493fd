"""Stages run where they have a loss, with the losses that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.data import rows
from tests.support.distillation import distill


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"loss": "prediction=0"}, ["intermediate"]),
        ({"loss": "attention=0,hidden=0,embedding=0"}, ["prediction"]),
        ({"objective": "prediction"}, ["prediction"]),
        ({"shared_projection": True, "loss": "attention=0"}, ["intermediate", "prediction"]),
    ],
)
def test_losses_can_be_switched_off(
    changes: dict[str, Any], stages: list[str], teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    manifest = distill(teacher, data_dir, tmp_path / "s", intermediate_epochs=1, prediction_epochs=1, **changes)
    assert list(manifest["stages"]) == stages


def test_labels_are_learnt_where_there_are_any(
    teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"{text}\n" for text, _ in rows(100, seed=9)))
    manifest = distill(
        teacher, data_dir, tmp_path / "s", objective="prediction", loss="prediction=0,label=2", unlabelled=str(more),
        init="random", prediction_lr=5e-3, prediction_epochs=8,
    )  # fmt: skip
    assert list(manifest["stages"]) == ["prediction"]
    names = {name for row in manifest["stages"]["prediction"]["history"] for name in row}
    assert names == {"step", "selection", "label"}
    assert manifest["metrics"]["accuracy"] > 0.9
    assert "the label loss sees 256 of 356 texts: the unlabelled have none" in capsys.readouterr().out
