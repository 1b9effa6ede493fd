"""`toolkit score` gives every row its model's own answer, in order, once, however often it is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.support.data import rows
from toolkit.cli.main import app
from toolkit.config import ScoreConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.scoring import inputs
from toolkit.scoring import score as scoring
from toolkit.scoring.models import open_scorer
from toolkit.scoring.score import run_score

TEXTS = [text for text, _ in rows(100, seed=7)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_ROWS", 8)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV of 100 numbered texts with labels of their own."""
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *((i, text, "mine") for i, text in enumerate(TEXTS))])
    return path


def score(model: Path, out: Path, *files: Path | str, **options: Any) -> list[dict[str, Any]]:
    run_score(ScoreConfig(str(model), str(out), input=tuple(map(str, files)), **options))
    return pq.read_table(out).to_pylist()


def test_every_row_has_its_own_answer_in_the_order_of_the_input(tiny_onnx: Path, table: Path, tmp_path: Path) -> None:
    answers = score(tiny_onnx, tmp_path / "out.parquet", table, workers=3)
    expected = open_predictor(tiny_onnx).predict(TEXTS)
    assert [row["id"] for row in answers] == list(map(str, range(100)))
    assert [(row["text"], row["label"]) for row in answers] == [(text, "mine") for text in TEXTS]
    np.testing.assert_allclose([row["probability_positive"] for row in answers], expected[:, 1], atol=1e-5)
    np.testing.assert_allclose([row["score"] for row in answers], expected.max(axis=1), atol=1e-5)
    assert {row["predicted_label"] for row in answers} == {"negative", "positive"}
    assert [row["predicted_label"] == "positive" for row in answers] == (expected[:, 1] > 0.5).tolist()


def test_probabilities_are_calibrated_and_logits_and_labels_stay(
    tiny_onnx: Path, overconfident: Path, table: Path, tmp_path: Path
) -> None:
    plain, calm = (score(model, tmp_path / f"{model.name}.parquet", table) for model in (tiny_onnx, overconfident))
    raw = score(overconfident, tmp_path / "raw.parquet", table, raw=True)
    assert [row["predicted_label"] for row in calm] == [row["predicted_label"] for row in plain]
    margins = np.array([row["logit_positive"] - row["logit_negative"] for row in raw])
    for answers, temperature in ((plain, 1.0), (calm, 2.5)):
        expected = 1 / (1 + np.exp(-margins / temperature))
        np.testing.assert_allclose([row["probability_positive"] for row in answers], expected, atol=1e-6)


def test_every_format_of_input_and_output_gives_the_same_answers(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8")
    (tmp_path / "a.tsv").write_text("text\n" + "\n".join(TEXTS), encoding="utf-8")
    from_text = score(tiny_onnx, tmp_path / "text.parquet", tmp_path / "a.txt")
    for name in ("a.jsonl", "a.tsv", "text.parquet"):
        assert score(tiny_onnx, tmp_path / f"{name}.parquet", tmp_path / name)[3]["score"] == from_text[3]["score"]
    for name in ("a.csv", "b.jsonl"):
        run_score(ScoreConfig(str(tiny_onnx), str(tmp_path / name), input=(str(tmp_path / "a.txt"),)))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [row["score"] for row in from_text]
    lines = (tmp_path / "b.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, lines)) == from_text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves files of its own open
def test_a_split_of_the_hub_is_scored_as_the_file_that_it_holds(
    tiny_onnx: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mails"
    folder.mkdir()
    table.rename(folder / "test.csv")
    split = score(tiny_onnx, tmp_path / "split.parquet", f"hub:{folder}:test")
    file = score(tiny_onnx, tmp_path / "file.parquet", folder / "test.csv")
    assert [row.pop("id") for row in split] == list(range(100)), "the type is the data set's"
    assert split == [{name: cell for name, cell in row.items() if name != "id"} for row in file]


def test_raw_logits_and_pairs(
    tmp_path: Path, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> None:
    plain = save_model(tiny_bert(), tmp_path / "plain")
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"a": text, "b": other}) + "\n" for text, other in zip(TEXTS, TEXTS[::-1], strict=True)),
        encoding="utf-8",
    )
    pairs = score(
        plain, tmp_path / "p.parquet", tmp_path / "p.jsonl", text_column="a", pair_column="b", raw=True, workers=1
    )
    assert list(pairs[0]) == ["a", "b", "label", "score", "logit_negative", "logit_positive"]
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(plain), AutoTokenizer.from_pretrained(plain)
    batch = tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        expected = model.eval()(**batch).logits.numpy()
    np.testing.assert_allclose([row["logit_positive"] for row in pairs], expected[:, 1], atol=1e-4)


def stopped_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> list[int]:
    """Let the command die after so many blocks; returns the numbers of the blocks that are scored."""
    scored, score_block = list[int](), scoring._score_block

    def die(block: inputs.Block, **options: Any) -> int:
        if len(scored) >= blocks:
            raise KeyboardInterrupt
        scored.append(block.number)
        return score_block(block, **options)

    monkeypatch.setattr(scoring, "_score_block", die)
    return scored


def test_three_deaths_lose_and_repeat_no_row_and_change_no_byte(tiny_onnx: Path, table: Path, tmp_path: Path) -> None:
    score(tiny_onnx, tmp_path / "whole.parquet", table)
    out, scored = tmp_path / "out.parquet", list[int]()
    for blocks in (0, 3, 5):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            scored_now = stopped_after(patch, blocks)
            score(tiny_onnx, out, table, workers=2)
        assert not out.exists()
        scored += scored_now
    with pytest.MonkeyPatch.context() as patch:
        scored_last = stopped_after(patch, 1000)
        score(tiny_onnx, out, table, workers=1)
    assert sorted(scored + scored_last) == list(range(13)), "every block once"
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not out.with_name("out.parquet.partial").exists()


def test_parts_of_a_changed_file_are_not_gone_on_with(tiny_onnx: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(patch, 2)
        score(tiny_onnx, out, table)
    table.write_text(table.read_text(encoding="utf-8") + "100,one more,mine\n", encoding="utf-8")
    with pytest.raises(ToolkitError, match=r"holds scores of another command:\n  - 1\. .*in\.csv"):
        score(tiny_onnx, out, table)


def test_a_file_that_grows_meanwhile_is_not_written_out(
    tiny_onnx: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_block = scoring._score_block

    def append(block: inputs.Block, **options: Any) -> int:
        with table.open("a", encoding="utf-8") as file:
            file.write("100,one more,mine\n")
        return score_block(block, **options)

    monkeypatch.setattr(scoring, "_score_block", append)
    with pytest.raises(ToolkitError, match=r"in\.csv has changed while it was scored") as caught:
        score(tiny_onnx, tmp_path / "out.parquet", table, workers=1)
    assert caught.value.fix == f"start over: rm -r {tmp_path / 'out.parquet.partial'}"
    assert not (tmp_path / "out.parquet").exists()


def test_scores_that_are_not_finite_are_named_by_line(
    tiny_onnx: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: ScoreConfig) -> object:
        scorer = open_scorer(config.model, config.device)
        runtime = scorer.classifier.runtime
        run = runtime.run
        monkeypatch.setattr(runtime, "run", lambda batch: np.full_like(run(batch), np.nan))
        return scorer

    monkeypatch.setattr(scoring, "open_model", broken)
    with pytest.raises(ToolkitError, match=r"in\.csv line 2: the model's scores are not finite"):
        score(tiny_onnx, tmp_path / "out.parquet", table, workers=1)


def test_the_command_refuses_to_replace_a_file_unless_it_is_told_to(
    tiny_onnx: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(ToolkitError, match="is there already") as caught:
        run_score(ScoreConfig(str(tiny_onnx), str(out), input=(str(table),)))
    assert caught.value.fix == "--overwrite, or another --out"
    result = CliRunner().invoke(
        app, ["score", str(tiny_onnx), "--input", str(table), "--out", str(out), "--overwrite"]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"scoring 100 rows of {table} on " in result.output.replace("\n", "")
    assert len(out.read_text(encoding="utf-8").splitlines()) == 101
    for name in ("no/out.csv", "."):  # "." is a folder that holds more than scores
        with pytest.raises(ToolkitError, match="cannot be written"):
            run_score(ScoreConfig(str(tiny_onnx), str(tmp_path / name), input=(str(table),), overwrite=True))


def test_a_folder_takes_the_parts_and_nothing_but_parts_is_replaced(
    tiny_onnx: Path, table: Path, tmp_path: Path
) -> None:
    file, folder = (score(tiny_onnx, tmp_path / name, table) for name in ("out.parquet", "out"))
    assert folder == file
    assert [path.name for path in sorted((tmp_path / "out").iterdir())][12:] == ["part-000000012.parquet"]
    assert score(tiny_onnx, tmp_path / "out", table, overwrite=True) == file
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out", "out.parquet"}


@pytest.mark.slow
def test_three_kills_at_random_moments(tiny_onnx: Path, tmp_path: Path) -> None:
    path, random = tmp_path / "in.txt", np.random.default_rng(0)
    path.write_text("\n".join(text for text, _ in rows(60_000, seed=1)), encoding="utf-8")
    command = [sys.executable, "-m", "toolkit", "score", str(tiny_onnx), "--input", str(path), "--out"]
    subprocess.run([*command, tmp_path / "whole.parquet"], check=True)
    folder, parts = tmp_path / "out.parquet.partial", 0
    for _ in range(3):
        running = subprocess.Popen([*command, tmp_path / "out.parquet"], start_new_session=True)
        while running.poll() is None and len(list(folder.glob("part-*"))) < parts + 2:
            time.sleep(0.02)
        time.sleep(random.random() / 5)
        assert running.poll() is None, "it ended before it was killed"
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        parts = len(list(folder.glob("part-*")))
    subprocess.run([*command, tmp_path / "out.parquet"], check=True)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
