"""The notebook is its script, cell by cell, with outputs of a real run; a small model runs in a real kernel too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from benchmarks.notebook import NOTEBOOK, SCRIPT, notebook_of, run
from tests.support.paths import ROOT


def text_of(notebook: Any) -> str:
    """Everything that the cells print."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def test_the_notebook_is_the_script_with_real_outputs() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    made = notebook_of(SCRIPT.read_text(encoding="utf-8"))
    cells = [[(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (stored, made)]
    assert cells[0] == cells[1], "run: python -m benchmarks.notebook"
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert [output.output_type for cell in code for output in cell.outputs if output.output_type != "stream"] == [
        "display_data"
    ]
    text = text_of(stored)
    for name in ("teacher", "student", "int8"):
        assert re.search(rf"^{name} +\d\d\.\d% +\d+\.\d MB +\d+\.\d\d ms a sentence$", text, re.MULTILINE)
    assert len(re.findall(r"^(?:positive|negative) 0\.\d{3}  ", text, re.MULTILINE)) == 2
    assert "/tmp" not in NOTEBOOK.read_text(encoding="utf-8"), "nothing of the machine that ran it"


def test_cells_are_cut_and_texts_lose_their_hashes() -> None:
    made = notebook_of("# %% [markdown]\n# # Title\n#\n# One.\n\n# %%\nx = 1  # kept\n\n# %%\nprint(x)\n")
    assert [(cell.cell_type, cell.source) for cell in made.cells] == [
        ("markdown", "# Title\n\nOne."), ("code", "x = 1  # kept"), ("code", "print(x)"),
    ]  # fmt: skip
    nbformat.validate(made)


@pytest.mark.slow
def test_its_cells_run_in_a_kernel_on_a_small_model(
    tiny_bert: Callable[..., Any], save_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = save_model(tiny_bert(initializer_range=0.05), tmp_path / "encoder")
    script = SCRIPT.read_text(encoding="utf-8")
    small = "distill(student='2/16/32/4', allow_weak_teacher=True, "
    changes = {
        "str(builtin.minilm())": repr(str(encoder)), "max_rows=512": "max_rows=64", "distill(\n": small,
        "max_drop=3.0": "precision='fp32'",  # logits of a model that has hardly learnt are too small for int8's gates
    }  # fmt: skip
    for old, new in changes.items():
        assert old in script
        script = script.replace(old, new)
    notebook = notebook_of(script)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run(notebook, tmp_path)
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert [set(data) for data in shown] == [{"image/png", "text/plain"}], "the picture, and no table of a command"
    assert re.search(r"^int8 +\d\d\.\d% +0\.\d MB", text_of(notebook), re.MULTILINE)


def test_a_cell_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run(notebook_of("# %%\n1 / 0\n"), tmp_path)
