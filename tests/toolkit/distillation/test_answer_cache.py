"""A teacher is asked once for each text, and only its own answers are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.distillation import distill
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig
from toolkit.distillation import data as distillation_data
from toolkit.distillation.answer_cache import AnswerCache
from toolkit.distillation.seeds import run_seeds
from toolkit.errors import ToolkitError
from toolkit.tasks import Task

TASK = Task("auto", ("a", "b"))


def answer(texts: list[str], asked: list[list[int]], path: Path, record: str = "t", **options: bool) -> np.ndarray:
    """Logits of texts, [length of the text, number of the text]; notes which ones were asked for."""

    def compute(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return np.array([[len(texts[row]), row] for row in rows], dtype=np.float32)

    return AnswerCache(path, {"teacher": record}, TASK, **options).logits((texts, None), compute)


def test_only_texts_without_an_answer_are_asked_for(tmp_path: Path) -> None:
    path, asked = tmp_path / "answers.parquet", list[list[int]]()
    first = answer(["x", "yy", "x"], asked, path)
    assert first.tolist() == [[1, 0], [2, 1], [1, 0]], "equal texts are asked for once"
    assert answer(["yy", "zzz"], asked, path).tolist() == [[2, 1], [3, 1]]
    assert answer(["zzz", "x", "yy"], asked, path).tolist() == [[3, 1], [1, 0], [2, 1]]
    assert asked == [[0, 1], [1]]
    assert pq.read_table(path).column_names == ["text", "logit_a", "logit_b"]


def test_labels_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    """A column of labels that people typed has them: Spam and spam."""
    cache = AnswerCache(tmp_path / "answers.parquet", {}, Task("auto", ("Spam", "spam")))
    logits = np.array([[1.0, 2.0]], dtype=np.float32)
    for _ in range(2):  # the second time they are read
        assert cache.logits((["x"], None), lambda _: logits).tolist() == logits.tolist()


def test_another_teacher_s_answers_are_refused_or_in_a_file_of_our_own_replaced(tmp_path: Path) -> None:
    path, asked = tmp_path / "answers.parquet", list[list[int]]()
    answer(["x"], asked, path)
    with pytest.raises(ToolkitError, match="does not hold this teacher's answers: teacher differ"):
        answer(["x"], asked, path, "other")
    answer(["x"], asked, path, "other", own=True)
    assert asked == [[0], [0]]
    with pytest.raises(ToolkitError, match="cannot be written"):
        AnswerCache(tmp_path / "no" / "answers.parquet", {}, TASK).check()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of training texts that a teacher is asked for."""
    numbers, model_logits = list[int](), distillation_data.model_logits

    def count(model: object, encoded: object, name: str | None = None, precision: str = "fp32") -> np.ndarray:
        if name == distillation_data.TEACHER_LOGITS:
            numbers.append(len(encoded))  # type: ignore[arg-type]
        return model_logits(model, encoded, name, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(distillation_data, "model_logits", count)
    return numbers


SHORT = {"init": "random", "intermediate_epochs": 0, "prediction_epochs": 1}


def test_a_second_run_gives_the_same_student_and_does_not_ask_the_teacher(
    teacher: Path, data_dir: Path, tmp_path: Path, asked: list[int]
) -> None:
    distill(teacher, data_dir, tmp_path / "plain", **SHORT)
    for name in ("first", "second"):
        distill(teacher, data_dir, tmp_path / name, teacher_scores=str(tmp_path / "answers.parquet"), **SHORT)
    plain, first, second = (
        open_bundle(tmp_path / name).manifest["files"]["model.safetensors"] for name in ("plain", "first", "second")
    )
    assert first == second
    assert plain == first, "the file changes nothing"
    assert asked == [256, 256]
    distill(teacher, data_dir, tmp_path / "more", teacher_scores=str(tmp_path / "answers.parquet"), seed=7, **SHORT)
    assert len(asked) == 3
    assert asked[2] <= 64, "more than the rows that chose the step under the other seed"


def test_seeds_share_one_set_of_answers(teacher: Path, data_dir: Path, tmp_path: Path, asked: list[int]) -> None:
    settings = {"data": str(data_dir), "student": "2/16/32/4", **SHORT}
    run_seeds(DistillConfig(str(teacher), "auto", str(tmp_path / "many"), seeds="1,2", **settings))
    assert asked[0] == 256
    assert asked[1] <= 64, "more than the rows that chose the step under the other seed"
    assert len(pq.read_table(tmp_path / "many" / "teacher-scores.parquet")) == sum(asked)
