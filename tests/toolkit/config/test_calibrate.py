"""Options of `toolkit calibrate`: those that say how the file is read, and none that it does not need."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from toolkit.cli.main import app
from toolkit.config import CalibrateConfig


def test_any_options_fit_each_other() -> None:
    assert list(CalibrateConfig("bundle", "rows.csv", text_column="a", skip_bad_rows=True).problems()) == []


@pytest.mark.parametrize("arguments", [["bundle"], ["--data", "rows.csv"]])
def test_bundle_and_rows_are_needed(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["calibrate", *arguments]).exit_code == 2
