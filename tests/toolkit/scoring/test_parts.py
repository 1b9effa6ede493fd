"""Parts are whole or absent, belong to one command, and are joined in the order of their numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.errors import ToolkitError
from toolkit.scoring.parts import Parts

TABLES = [pa.table({"n": [i, i + 10], "tags": [["a", "b"], None]}) for i in range(3)]


def test_parts_written_in_any_order_are_joined_in_theirs(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with Parts(out, {"model": "m"}) as parts:
        for number in (2, 0, 1):
            parts.write(number, TABLES[number])
        parts.join(3)
    assert pq.read_table(out).equals(pa.concat_tables(TABLES))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"], "nothing else is left"


def test_lists_are_json_in_csv_and_lists_in_json_lines(tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl"):
        with Parts(tmp_path / name, {}) as parts:
            parts.write(0, TABLES[0])
            parts.join(1)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["n", "tags"], ["0", '["a", "b"]'], ["10", ""]]
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, lines)) == TABLES[0].to_pylist()


def test_an_error_leaves_the_parts_for_the_same_command_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with pytest.raises(KeyboardInterrupt), Parts(out, {"model": "m", "--raw": False}) as parts:
        parts.write(1, TABLES[1])
        raise KeyboardInterrupt
    with pytest.raises(ToolkitError, match=r"holds scores of another command") as caught:
        Parts(out, {"model": "other", "--raw": False})
    assert "model: m there, other here" in caught.value.problem
    assert "--raw" not in caught.value.problem
    with Parts(out, {"model": "m", "--raw": False}) as parts:
        assert list(parts.done()) == [1]
        assert parts.rows() == 2
        with pytest.raises(ToolkitError, match="another process is writing"), Parts(out, parts._command):
            pass


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    damaged = pytest.raises(ToolkitError, match=r"part-000000000\.parquet is damaged")
    with damaged as caught, Parts(tmp_path / "out.parquet", {}) as parts:
        parts.write(0, TABLES[0])
        next(iter(parts.done().values())).write_bytes(b"PAR1 no more")
        parts.join(1)
    assert caught.value.fix.startswith("remove it and give the same command again: rm ")
