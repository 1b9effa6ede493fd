"""Seeds run apart, are reused, and are summed up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation.seeds import run_seeds, summarize
from toolkit.errors import ToolkitError
from toolkit.tasks import Task


def test_seeds_run_apart_and_are_summed_up(
    teacher: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DistillConfig(
        str(teacher), "auto", str(tmp_path / "many"), data=str(data_dir), student="2/16/32/4", init="random",
        intermediate_epochs=0, prediction_epochs=1, prediction_lr=2e-3, seeds="1,2",
    )  # fmt: skip
    summary = run_seeds(config)
    bundles = [open_bundle(tmp_path / "many" / f"seed-{seed}") for seed in (1, 2)]
    scores = [100 * bundle.manifest["metrics"]["accuracy"] for bundle in bundles]
    assert [row["student"] for row in summary["seeds"]] == scores
    assert summary["split"] == "dev"
    chosen_by = [bundle.manifest["data"]["selection"] for bundle in bundles]
    assert chosen_by[0] != chosen_by[1], "each seed chooses by rows of its own"
    assert summary["mean"]["student"] == pytest.approx(sum(scores) / 2)
    assert summary["deviation"]["student"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert summary["deviation"]["teacher"] == 0.0
    assert json.loads((tmp_path / "many" / "summary.json").read_text()) == summary
    capsys.readouterr()
    more = run_seeds(replace(config, seeds="1,2,3"))
    output = capsys.readouterr().out
    assert "seed 1: " in output.split("== seed 2")[0]
    assert output.count("is there already") == 2
    assert more["seeds"][:2] == summary["seeds"]
    capsys.readouterr()
    changed = replace(config, seeds="1,4", prediction_lr=1e-3)
    with pytest.raises(ToolkitError, match=r"seed-1 is there already, made by other options"):
        run_seeds(changed)
    assert not (tmp_path / "many" / "seed-4").exists()
    run_seeds(replace(changed, seeds="1", overwrite=True))
    assert "is replaced" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ToolkitError, match=r"holds something else than seeds: thesis\.txt"):
        run_seeds(replace(config, out=str(tmp_path / "mine")))


def test_scores_mean_and_deviation_by_hand() -> None:
    class Scored:
        task = Task("auto", ("a", "b"), metrics=("accuracy", "f1"))
        split = "test"

        def __init__(self, seed: int, teacher: float, start: float, student: float) -> None:
            metrics = {"teacher_metrics": teacher, "start_metrics": start, "metrics": student}
            self.manifest = {"seed": seed, **{name: {"accuracy": value} for name, value in metrics.items()}}
            self.digest = f"d{seed}"

    summary = summarize([Scored(1, 0.8, 0.5, 0.6), Scored(2, 0.8, 0.6, 0.8)])  # type: ignore[list-item]
    assert (summary["task"], summary["metric"], summary["split"]) == ("auto", "accuracy", "test")
    assert [(row["seed"], row["digest"]) for row in summary["seeds"]] == [(1, "d1"), (2, "d2")]
    assert summary["mean"] == pytest.approx({"teacher": 80.0, "start": 55.0, "student": 70.0, "retention": 87.5})
    assert summary["deviation"]["student"] == pytest.approx(200**0.5)
    single = summarize([Scored(1, 0.0, 0.5, 0.6)])  # type: ignore[list-item]
    assert single["mean"]["retention"] == 0.0  # nothing can be kept of a teacher that scores 0
    assert set(single["deviation"].values()) == {0.0}
