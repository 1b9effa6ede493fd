"""Augmented rows: streamed, the same each time, learnt from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from tests.support.data import BAD, FILLER, GOOD
from tests.support.masked_lm import save_mlm
from toolkit.augmentation import augment
from toolkit.augmentation.augment import CandidateGenerator, Report, augmented, run_augment
from toolkit.augmentation.glove import load_vectors
from toolkit.bundle.format import open_bundle
from toolkit.config import AugmentConfig, DistillConfig, FinetuneConfig
from toolkit.data.datasets import load_split, load_texts, resolve_task
from toolkit.data.splits import load_splits
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError
from toolkit.tasks import Task
from toolkit.training.finetune import run_finetune


def write_glove(path: Path, words: Sequence[str]) -> Path:
    """Words on a quarter circle: the nearest are those listed beside each other."""
    angles = np.linspace(0, np.pi / 2, len(words))
    lines = [f"{word} {np.cos(a):.6f} {np.sin(a):.6f}" for word, a in zip(words, angles, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    return write_glove(tmp_path / "glove.txt", GOOD + BAD + FILLER)


def made(tmp_path: Path, table: list[tuple[Any, ...]], glove: Path, name: str = "a", **changes: Any) -> Any:
    """Rows of the file that `toolkit augment` makes of this training table, and its report."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    columns = ["text", "text_pair", "label"] if len(table[0]) == 3 else ["text", "label"]
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in table]
    (data / "train.jsonl").write_text("\n".join(lines))
    out = tmp_path / f"{name}.parquet"
    config = {"copies": 6, "replace_probability": 0.5, "candidates": 3, **changes}
    run_augment(AugmentConfig("auto", str(out), data=str(data), glove=str(glove), **config))
    rows = pyarrow.parquet.read_table(out).to_pylist()
    return rows, json.loads(Path(f"{out}.report.json").read_text())


TABLE = [("a warm and clever film, 10 of 10", "positive"), ("the plot is Dull", "negative"), ("12 !", "negative")]


class TestRows:
    def test_originals_first_duplicates_dropped(self, tmp_path: Path, glove: Path) -> None:
        rows, report = made(tmp_path, TABLE, glove, copies=40)
        assert list(rows[0]) == ["text", "label", "origin", "copy"]
        for origin, (text, label) in enumerate(TABLE):
            own = [row for row in rows if row["origin"] == origin]
            assert own[0] == {"text": text, "label": label, "origin": origin, "copy": 0}
            assert {row["label"] for row in own} == {label}
            assert len({row["text"] for row in own}) == len(own)
            assert sorted(row["copy"] for row in own) == [row["copy"] for row in own]
        assert [row["origin"] for row in rows] == sorted(row["origin"] for row in rows)
        assert len([row for row in rows if row["origin"] == 2]) == 1  # nothing to exchange
        assert report["rows"] == 3
        assert report["written"] == len(rows) == 3 * 41 - report["duplicates_dropped"]

    def test_every_change_is_a_neighbour_in_its_place(self, tmp_path: Path, glove: Path) -> None:
        rows, report = made(tmp_path, TABLE, glove, copies=40)
        near = load_vectors(str(glove)).neighbours(["warm", "clever", "film", "plot", "dull"], 3)
        for row in rows:
            if row["origin"] == 0:
                words = row["text"].replace(",", "").split()
                assert [words[0], words[2], *words[5:]] == ["a", "and", "10", "of", "10"]  # stopwords and numbers stay
                for word, original in zip([words[1], words[3], words[4]], ["warm", "clever", "film"], strict=True):
                    assert word in (original, *near[original])
            if row["origin"] == 1:
                assert row["text"].split()[3].lower() in ("dull", *near["dull"])
                assert row["text"].split()[3][0].isupper()
        assert report["served"] == {"mlm": 0, "glove": 5, "kept": 0}
        assert {row["text"].split()[1] for row in rows if row["origin"] == 0} == {"warm", *near["warm"]}

    def test_no_probability_no_copies_and_all_of_it_every_word(self, tmp_path: Path, glove: Path) -> None:
        rows, _ = made(tmp_path, TABLE, glove, replace_probability=0.0)
        assert [row["text"] for row in rows] == [text for text, _ in TABLE]
        rows, _ = made(tmp_path, TABLE, glove, "b", replace_probability=1.0)
        for row in rows:
            if row["copy"] and row["origin"] == 0:
                words = row["text"].replace(",", "").split()
                assert all(
                    a != b for a, b in zip([words[i] for i in (1, 3, 4)], ["warm", "clever", "film"], strict=True)
                )

    def test_the_share_of_exchanged_words(self, tmp_path: Path, glove: Path) -> None:
        text = " ".join(GOOD)
        rows, _ = made(tmp_path, [(text, "a"), ("bad", "b")], glove, copies=400, replace_probability=0.4)
        copies = [row["text"].split() for row in rows if row["origin"] == 0 and row["copy"]]
        share = np.mean([[a != b for a, b in zip(copy, GOOD, strict=True)] for copy in copies])
        assert abs(share - 0.4) < 0.04  # 4,000 draws: five standard deviations

    def test_each_side_of_a_pair_from_its_own_original(self, tmp_path: Path) -> None:
        glove = write_glove(tmp_path / "g.txt", ["warm", "bright", *["x" * n for n in range(1, 30)], "flat", "dull"])
        pair = [("a warm one", "a dull one", "yes"), ("warm", "warm", "no")]
        rows, report = made(tmp_path, pair, glove, copies=30, candidates=1)
        assert list(rows[0]) == ["text", "text_pair", "label", "origin", "copy"]
        own = {(row["text"], row["text_pair"]) for row in rows if row["origin"] == 0}
        assert own == {(f"a {a} one", f"a {b} one") for a in ("warm", "bright") for b in ("dull", "flat")}
        assert len([row for row in rows if row["origin"] == 1]) == 4  # equal texts are drawn apart
        assert report["served"]["glove"] == 4
        assert report["served"]["kept"] == 0

    def test_the_model_first_then_glove_then_the_word_itself(self, tmp_path: Path, glove: Path) -> None:
        mlm = save_mlm(tmp_path / "m", ["warm", "cold", "clev", "##er", "film", "fil", "##er"], ["film", "cold"])
        table = [("warm clever zebra", "a"), ("dull", "b")]
        rows, report = made(tmp_path, table, glove, mlm=str(mlm), replace_probability=1.0, candidates=2)
        assert report["served"] == {"mlm": 1, "glove": 2, "kept": 1}
        assert report["share"] == {"mlm": 0.25, "glove": 0.5, "kept": 0.25}
        near = load_vectors(str(glove)).neighbours(["clever"], 2)["clever"]
        for row in rows:
            if row["origin"] == 0 and row["copy"]:
                first, second, third = row["text"].split()
                assert first in ("film", "cold")
                assert second in near
                assert third == "zebra"

    def test_the_same_bytes_whatever_the_batch_and_other_rows_by_seed(self, tmp_path: Path, glove: Path) -> None:
        mlm = str(save_mlm(tmp_path / "m", GOOD + FILLER))
        for name, changes in {"a": {}, "b": {"batch_size": 1}, "c": {"seed": 7}}.items():
            made(tmp_path, TABLE, glove, name, mlm=mlm, **changes)
        a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
        assert a == b
        assert a != c

    def test_bf16_that_depends_on_the_batch_is_not_used(
        self, tmp_path: Path, glove: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mlm = str(save_mlm(tmp_path / "m", GOOD + FILLER))
        exact, report = made(tmp_path, TABLE, glove, mlm=mlm, precision="fp32")
        assert report["mlm_precision"] == "fp32"
        assert "instead of bf16" not in capsys.readouterr().out
        monkeypatch.setattr("toolkit.augmentation.masked_lm.is_batch_invariant", lambda _: False)
        rows, report = made(tmp_path, TABLE, glove, "b", mlm=mlm, precision="bf16")
        assert report["mlm_precision"] == "fp32"
        assert "instead of bf16" in capsys.readouterr().out
        assert rows == exact

    def test_a_subset_keeps_its_row_numbers_and_copies(self, tmp_path: Path, glove: Path) -> None:
        table = [(f"{good} {bad} film", "ab"[i % 2]) for i, (good, bad) in enumerate(zip(GOOD, BAD, strict=True))]
        all_rows, _ = made(tmp_path, table, glove)
        some, report = made(tmp_path, table, glove, "b", max_rows=4)
        origins = {row["origin"] for row in some}
        assert len(origins) == report["rows"] == 4
        assert some == [row for row in all_rows if row["origin"] in origins]

    def test_chunks_do_not_matter(self, glove: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        split = load_split(resolve_task("auto", data_dir), "train", data_dir)

        def run(size: int) -> tuple[list[int], list[Any], dict[str, Any]]:
            monkeypatch.setattr(augment, "CHUNK_ROWS", size)
            generator, report = CandidateGenerator(load_vectors(str(glove)), None, augment.stopwords(), 5), Report()
            chunks = list(
                augmented(split, np.arange(len(split)), generator, report, copies=4, probability=0.4, seed=42)
            )
            return [len(chunk) for chunk in chunks], [row for chunk in chunks for row in chunk], report.to_dict()

        (few, rows, counts), (many, same, counts_again) = run(10_000), run(17)
        assert (len(few), len(many)) == (1, 19)  # 320 rows
        assert rows == same
        assert counts == counts_again

    def test_row_groups_are_written_as_they_come(
        self, tmp_path: Path, glove: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(augment, "CHUNK_ROWS", 2)
        made(tmp_path, TABLE, glove)
        assert pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 2

    @pytest.mark.parametrize("labels", [["a", "b"], [0.5, 2.25], [["x"], ["x", "y"]]])
    def test_the_file_is_a_training_file_itself(self, labels: list[Any], tmp_path: Path, glove: Path) -> None:
        table = [("a warm film", labels[0]), ("a dull plot", labels[1])]
        rows, _ = made(tmp_path, table, glove)
        (tmp_path / "again").mkdir()
        (tmp_path / "a.parquet").rename(tmp_path / "again" / "train.parquet")
        split = load_split(resolve_task("auto", tmp_path / "again"), "train", tmp_path / "again")
        before = load_split(resolve_task("auto", tmp_path / "data"), "train", tmp_path / "data")
        np.testing.assert_array_equal(split.labels, before.labels[[row["origin"] for row in rows]])

    def test_the_report_has_examples(self, tmp_path: Path, glove: Path) -> None:
        _, report = made(tmp_path, [(f"{word} film", "ab"[i % 2]) for i, word in enumerate(GOOD)], glove, copies=20)
        assert len(report["examples"]) == 5
        assert all(example["original"] != example["copy"] for example in report["examples"])
        assert report["config"]["candidates"] == 3
        assert report["words_per_s"] > 0


class TestRefused:
    def test_all_faults_of_the_options_at_once(self) -> None:
        config = AugmentConfig(
            "auto", "o.txt", copies=0, replace_probability=1.5, candidates=0, together=0, precision="fp16"
        )  # fmt: skip
        with pytest.raises(ToolkitError, match="7 problems"):
            run_augment(config)

    def test_nothing_is_left_behind(self, tmp_path: Path, glove: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.parquet").write_bytes(b"an earlier one")
        with pytest.raises(ToolkitError, match="is there already"):
            made(tmp_path, TABLE, glove)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(augment, "_label", full)
        with pytest.raises(ToolkitError, match="No space left"):
            made(tmp_path, TABLE, glove, overwrite=True)
        assert (tmp_path / "a.parquet").read_bytes() == b"an earlier one"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "data", "glove.txt"]

    def test_no_directory_to_write_to(self, tmp_path: Path, data_dir: Path) -> None:
        with pytest.raises(ToolkitError, match="cannot be written"):
            run_augment(AugmentConfig("auto", str(tmp_path / "no" / "o.parquet"), data=str(data_dir)))

    def test_no_such_glove_and_no_such_model(self, tmp_path: Path, data_dir: Path, glove: Path) -> None:
        out = str(tmp_path / "o.parquet")
        with pytest.raises(ToolkitError, match="no such file"):
            run_augment(AugmentConfig("auto", out, data=str(data_dir), glove=str(tmp_path / "none.txt")))
        with pytest.raises(ToolkitError, match="none: no such directory"):
            run_augment(AugmentConfig("auto", out, data=str(data_dir), glove=str(glove), mlm=str(tmp_path / "none")))


class TestDistill:
    def test_both_stages_learn_from_the_augmented_rows(
        self, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path, glove: Path
    ) -> None:
        plain = save_model(tiny_bert(initializer_range=0.05), tmp_path / "plain")
        common = {"data": str(data_dir)}
        run_finetune(FinetuneConfig(str(plain), "auto", str(tmp_path / "t"), epochs=6, lr=5e-3, **common))
        file = run_augment(AugmentConfig("auto", str(tmp_path / "a.parquet"), glove=str(glove), copies=2, **common))
        written = pyarrow.parquet.read_table(file).to_pylist()
        assert 320 < len(written) <= 3 * 320
        splits = load_splits(resolve_task("auto", data_dir), str(data_dir), selection_rows=None, max_rows=None, seed=42)
        made_of_choosing = {row["text"] for row in written if row["origin"] in splits.drawn}
        rows = len([row for row in written if row["text"] not in made_of_choosing])
        assert 256 < rows < len(written) - 64
        settings = {"student": "2/16/32/4", "intermediate_epochs": 2, "prediction_epochs": 1, "batch_size": 8}
        run_distill(
            DistillConfig(str(tmp_path / "t"), "auto", str(tmp_path / "s"), augment=str(file), **settings, **common)
        )
        manifest = open_bundle(tmp_path / "s").manifest
        assert manifest["stages"]["intermediate"]["steps"] == 2 * -(-rows // 8)
        assert manifest["stages"]["prediction"]["steps"] == -(-rows // 8)
        assert manifest["data"]["augment"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert manifest["config"]["augment"] == str(file)
        assert manifest["selection"] == {"split": "train", "rows": 64}

    def test_files_that_are_not_for_this_task(self, tmp_path: Path, glove: Path, data_dir: Path) -> None:
        single, pairs = Task("auto", ("a", "b")), Task("auto", ("a", "b"), pair_column="text_pair")
        made(tmp_path, TABLE, glove, "single")
        made(tmp_path, [("warm", "dull", "a"), ("film", "plot", "b")], glove, "pairs")
        assert load_texts(single, tmp_path / "single.parquet").pairs is None
        assert load_texts(pairs, tmp_path / "pairs.parquet").pairs is not None
        with pytest.raises(ToolkitError, match="no column 'text_pair'"):
            load_texts(pairs, tmp_path / "single.parquet")
        with pytest.raises(ToolkitError, match="holds pairs of texts"):
            load_texts(single, tmp_path / "pairs.parquet")
        with pytest.raises(ToolkitError, match="no such file"):
            load_texts(single, tmp_path / "none.parquet")
        (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(ToolkitError, match="not Parquet"):
            load_texts(single, tmp_path / "bad.parquet")
