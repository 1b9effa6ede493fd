"""Stored runs of the ablations."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.distillation.ablations import store


def test_runs_are_kept_until_they_are_made_anew_or_with_other_settings(tmp_path: Path) -> None:
    def run(seed: int, variant: str, student: float) -> dict[str, object]:
        return {"seed": seed, "task": "cola", "variant": variant, "student": student}

    path, few, more = tmp_path / "ablations.json", {"max_rows": 100}, {"max_rows": 200}
    for row in (run(2, "full", 1.0), run(1, "no hidden", 2.0), run(1, "full", 3.0), run(2, "full", 4.0)):
        content = store(row, few, path)
    assert content["rows"] == [run(1, "full", 3.0), run(1, "no hidden", 2.0), run(2, "full", 4.0)]
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert store(run(3, "full", 5.0), more, path)["rows"] == [run(3, "full", 5.0)]
