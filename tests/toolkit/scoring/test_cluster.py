"""A cluster scores the same blocks as one machine, and gives the same bytes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.support.data import rows
from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError
from toolkit.scoring import inputs as scoring_inputs
from toolkit.scoring.answers import scored_table
from toolkit.scoring.cluster import Actor, Work, _packed, _read, _unpacked, cluster, cluster_error, scored_blocks
from toolkit.scoring.inputs import survey
from toolkit.scoring.models import open_scorer
from toolkit.scoring.parts import Parts
from toolkit.scoring.score import run_score


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    lines = (f"{i},{text}\n" for i, (text, _) in enumerate(rows(60, seed=5)))
    path.write_text("id,text\n" + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def work(tiny_onnx: Path, table: Path) -> Work:
    scorer = open_scorer(str(tiny_onnx), "cpu")
    inputs = survey([table], scorer.task, text=None, pair=None, skip_bad=False, block_rows=8)
    config = ScoreConfig(str(tiny_onnx), "out.parquet", input=(str(table),), device="cpu")
    return Work(config, scorer.digest, inputs)


def test_actors_answer_the_blocks_that_are_read_and_not_done(work: Work) -> None:
    scorer, actor = open_scorer(work.config.model, "cpu"), Actor(work)
    packed = list(_read(work.inputs, frozenset({0, 3})))
    assert [_unpacked(row)[0] for row in packed] == [1, 2, 4, 5, 6, 7]
    number, answers = _unpacked(actor(packed[1]))
    assert number == 2
    assert (
        pa.ipc.open_stream(answers)
        .read_all()
        .equals(scored_table(list(work.inputs.blocks())[2], work.inputs.types, scorer, raw=False))
    )


def test_another_model_at_the_same_place_is_refused(work: Work) -> None:
    actor = Actor(replace(work, digest="other"))
    with pytest.raises(ToolkitError, match="is another model than here"):
        actor(_packed(0, pickle.dumps(next(work.inputs.blocks()))))


def test_an_error_of_the_cluster_is_ours_or_the_last_line_of_ray_s() -> None:
    ours, ray_s = ToolkitError("ours"), RuntimeError("a trace\nand what is wrong\n")
    assert cluster_error(ray_s).problem == "the cluster fails: and what is wrong"
    ray_s.cause = ours  # type: ignore[attr-defined]
    assert cluster_error(ray_s) is ours


@pytest.mark.slow  # Ray takes ten processes and as many seconds to start
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_writes_the_bytes_of_one_machine_and_goes_on_from_its_parts(
    work: Work, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_inputs, "BLOCK_ROWS", 8)
    config = ScoreConfig(work.config.model, str(tmp_path / "one.parquet"), input=(str(table),), workers=2)
    run_score(config)
    whole = tmp_path / "cluster.parquet"
    entered = Parts.__enter__

    def with_a_part(parts: Parts) -> Parts:
        entered(parts)
        parts.write(
            5,
            scored_table(
                list(work.inputs.blocks())[5], work.inputs.types, open_scorer(work.config.model, "cpu"), raw=False
            ),
        )
        return parts

    monkeypatch.setattr(Parts, "__enter__", with_a_part)
    run_score(replace(config, out=str(whole), ray="local"))
    assert whole.read_bytes() == (tmp_path / "one.parquet").read_bytes()
    with cluster("local", 2) as actors, pytest.raises(ToolkitError, match="is another model than here"):
        list(scored_blocks(replace(work, digest="other"), (), actors))
