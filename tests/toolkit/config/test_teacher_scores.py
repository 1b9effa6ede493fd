"""What a file of answers cannot give is said in one message."""

from __future__ import annotations

import pytest

from toolkit.config import DistillConfig
from toolkit.errors import ToolkitError

ALONE = {"teacher": None, "task": "sst2", "out": "o", "teacher_scores": "scores.parquet"}


def test_layers_labels_and_other_texts_need_a_teacher() -> None:
    with pytest.raises(ToolkitError) as caught:
        DistillConfig(
            **ALONE, loss="hidden=1,label=1", objective="relations", intermediate_epochs=2, unlabelled="more.txt",
            init="random",
        ).check()  # fmt: skip
    message = str(caught.value)
    assert "--loss hidden, --objective relations, --intermediate-epochs 2: a file of answers has no layers" in message
    assert "--loss label: a file of answers has no labels" in message
    assert "--unlabelled: the student learns from the rows of --teacher-scores alone" in message
    assert "--init random: expected --student-tokenizer DIR" in message
    with pytest.raises(ToolkitError, match="--teacher-scores alone: expected --init ENCODER"):
        DistillConfig(**ALONE).check()


def test_a_loss_that_cannot_be_read_is_said_beside_the_others() -> None:
    with pytest.raises(ToolkitError) as caught:
        DistillConfig(**ALONE, loss="warmth=1").check()
    assert "--loss warmth=1" in caught.value.problem
    assert "expected --init ENCODER" in caught.value.problem


def test_a_file_alone_needs_word_pieces_and_no_data() -> None:
    with pytest.raises(ToolkitError, match="--init random: expected --student-tokenizer DIR"):
        DistillConfig(**ALONE, init="random").check()
    DistillConfig(**ALONE, init="random", student_tokenizer="t").check()
    alone = DistillConfig(**{**ALONE, "task": "auto"}, init="encoder")
    alone.check()
    DistillConfig(**ALONE, init="encoder", intermediate_epochs=2, layer_map="top").check()
    assert alone.sources == ("encoder",)


def test_a_teacher_or_its_answers_are_needed() -> None:
    with pytest.raises(ToolkitError, match="no --teacher: expected a model to learn from, or --teacher-scores FILE"):
        DistillConfig(None, "sst2", "o").check()
    with pytest.raises(ToolkitError, match="--general takes no --teacher-scores"):
        DistillConfig("t", None, "o", teacher_scores="s", general=True, corpus=("c",)).check()


@pytest.mark.parametrize("init", ["teacher", "encoder"])
def test_word_pieces_come_from_one_model(init: str) -> None:
    DistillConfig("t", "sst2", "o", student_tokenizer="s", init="random").check()
    with pytest.raises(ToolkitError, match=f"--student-tokenizer with --init {init}: expected --init random"):
        DistillConfig("t", "sst2", "o", student_tokenizer="s", init=init).check()
