"""The notebook of the examples, made from its script and run for real.

python -m benchmarks.notebook    runs examples/tour.py cell by cell and writes examples/tour.ipynb
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from benchmarks.paths import ROOT

SCRIPT, NOTEBOOK = ROOT / "examples" / "tour.py", ROOT / "examples" / "tour.ipynb"
MARKDOWN = "# %% [markdown]\n"
CELL_TIMEOUT_S = 3600


def notebook_of(script: str) -> Any:
    """Cut a script at its lines of `# %%` into the cells of a notebook; below `# %% [markdown]` comments are text."""
    cells = []
    for i, part in enumerate(re.split(r"^(?=# %%)", script, flags=re.MULTILINE)[1:]):
        kind, _, body = part.partition("\n")
        if kind == MARKDOWN.strip():
            cell = nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE))
        else:
            cell = nbformat.v4.new_code_cell(body.strip())
        cell["id"] = f"cell-{i}"  # nbformat draws one at random
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def run(notebook: Any, folder: Path) -> None:
    """Run all cells in a kernel whose working directory is `folder`, and keep their outputs in the notebook.

    What libraries write to stderr is left out: it names paths of this machine.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
    """
    NotebookClient(
        notebook, kernel_name="python3", timeout=CELL_TIMEOUT_S, record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()  # fmt: skip
    drop_stderr(notebook)
    notebook["metadata"]["language_info"] = {"name": "python"}  # the kernel adds its own version


def drop_stderr(notebook: Any) -> None:
    """Take out what was written to stderr."""
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]


def main() -> None:
    """Run the script's cells in a folder that is removed after, and write the notebook."""
    notebook = notebook_of(SCRIPT.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, Path(folder))
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
