"""Text without labels, from plain files and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolkit.console import echo
from toolkit.data.columns import DEFAULTS, DataOptions, choose_columns, guesses
from toolkit.data.encodings import without_gz
from toolkit.data.readers import FILE_SUFFIXES, read_rows
from toolkit.data.row_problems import RowProblems
from toolkit.data.sources import file_table
from toolkit.errors import ToolkitError


def read_texts(
    path: Path, *, pairs: bool, options: DataOptions = DEFAULTS
) -> tuple[list[str], list[str] | None]:  # fmt: skip
    """Read text without labels: lines of a .txt file, or the columns of the text and, for pairs, of the second text.

    Empty lines of a .txt file are skipped; an empty cell of a table is a problem, or its row is left out. Columns that
    the options name are read where the table has them: they are those of other files.

    Raises:
        ToolkitError: no such file, a suffix or columns that do not fit, or cells that hold no text.
    """
    if not path.is_file():
        raise ToolkitError(f"{path}: no such file", expected="text without labels")
    if without_gz(path).suffix == ".txt" and not pairs:
        return [str(row.cells["text"]) for row in read_rows(path)], None
    if not path.name.endswith(FILE_SUFFIXES):
        raise ToolkitError(
            f"{path} cannot be read as text without labels",
            expected=f"{', '.join(FILE_SUFFIXES)}" + (", with two texts a row" if pairs else ", or .txt, one a line"),
        )
    table = file_table(path)
    if not (present := table.columns()):
        return [], [] if pairs else None
    text, pair = (name if name in present else None for name in (options.text_column, options.pair_column))
    options = replace(options, text_column=text, pair_column=pair)
    if not pairs and choose_columns(str(path), present, pairs=None, options=options, labelled=False).pair is not None:
        raise ToolkitError(f"{path} holds pairs of texts", expected="single texts, as the task has")
    columns = choose_columns(str(path), present, pairs=pairs, options=options, labelled=False)
    names = [column for column in (columns.text, columns.pair) if column is not None]
    problems = RowProblems(str(path), skip_bad=options.skip_bad_rows)
    rows = (row for row in table.rows() if problems.is_good(row.problems(names)))
    texts = [[row.cells[name] for name in names] for row in rows]
    problems.settle()
    for remark in (*table.remarks, *guesses(str(path), columns, options)):
        echo(remark)
    return [row[0] for row in texts], [row[-1] for row in texts] if pairs else None
