"""Shapes, layer maps, projections; parameter counts against the paper's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaConfig,
    DistilBertConfig,
    MPNetConfig,
    RobertaConfig,
    RoFormerConfig,
    RoFormerForSequenceClassification,
)

from toolkit.config.losses import LOSSES
from toolkit.errors import ToolkitError
from toolkit.models.families import position_offset
from toolkit.models.student import (
    Projections,
    Shape,
    check_heads,
    check_smaller,
    layer_map,
    plan_student,
    student_config,
)
from toolkit.tasks import get_task


@pytest.mark.parametrize(
    ("kind", "teacher", "student", "expected"),
    [
        ("uniform", 12, 4, (3, 6, 9, 12)),  # the paper's g(m) = 3m
        ("uniform", 12, 6, (2, 4, 6, 8, 10, 12)),
        ("uniform", 6, 4, (2, 3, 5, 6)),  # not divisible: rounded half up
        ("uniform", 5, 2, (3, 5)),
        ("top", 12, 4, (9, 10, 11, 12)),
        ("bottom", 12, 4, (1, 2, 3, 4)),
        ("1,5,7,12", 12, 4, (1, 5, 7, 12)),
    ],
)
def test_layer_maps(kind: str, teacher: int, student: int, expected: tuple[int, ...]) -> None:
    assert layer_map(kind, teacher, student) == expected


@given(st.integers(1, 24), st.data())
def test_uniform_rises_to_the_last_layer(teacher: int, data: st.DataObject) -> None:
    student = data.draw(st.integers(1, teacher))
    mapping = layer_map("uniform", teacher, student)
    assert mapping[-1] == teacher
    assert list(mapping) == sorted(set(mapping))
    assert mapping[0] >= 1


@pytest.mark.parametrize("kind", ["3,6,9", "3,6,9,13", "0,6,9,12", "6,3,9,12", "3,3,9,12"])
def test_lists_that_do_not_fit_are_refused(kind: str) -> None:
    with pytest.raises(ToolkitError, match=f"--layer-map {kind}"):
        layer_map(kind, 12, 4)


def test_a_student_deeper_than_its_teacher_is_refused() -> None:
    with pytest.raises(ToolkitError, match="a student of 6 layers cannot learn from a teacher of 3"):
        layer_map("uniform", 3, 6)


@pytest.mark.parametrize(("name", "millions"), [("tinybert4", 14.35), ("tinybert6", 66.96), ("2/128/512/2", 4.39)])
def test_parameter_counts(name: str, millions: float) -> None:
    config = student_config(BertConfig(), Shape.parse(name), dropout=0.1, task=get_task("sst2"))
    with torch.device("meta"):
        model = BertForSequenceClassification(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_width_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ToolkitError, match="312 hidden over 7 heads"):
        Shape.parse("4/312/1200/7")


def test_the_config_follows_task_and_teacher() -> None:
    teacher = RobertaConfig(vocab_size=77, max_position_embeddings=66, type_vocab_size=1, hidden_act="relu")
    config = student_config(teacher, Shape(2, 12, 24, 3), dropout=0.0, task=get_task("mnli"))
    assert position_offset(teacher.model_type, teacher.pad_token_id) == 2
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (77, 64, 1)
    assert (config.hidden_act, config.type_vocab_size) == ("relu", 1)
    assert config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert config.problem_type == "single_label_classification"
    assert student_config(teacher, Shape(2, 12, 24, 3), dropout=0.0, task=get_task("stsb")).num_labels == 1
    distil = student_config(DistilBertConfig(activation="relu"), Shape(2, 12, 24, 3), dropout=0.0)
    assert (distil.hidden_act, distil.type_vocab_size) == ("relu", 2)


def test_head_counts_must_match(tiny_bert: Any) -> None:
    check_heads(tiny_bert(), Shape(2, 12, 24, 4))
    with pytest.raises(ToolkitError, match="the teacher has 4 attention heads, the student 3") as caught:
        check_heads(tiny_bert(), Shape(2, 12, 24, 3))
    assert "--student 2/12/24/4" in caught.value.fix


@pytest.mark.parametrize("shape", ["4/312/1200/12", "tinybert6", "5/10/20/5", "2/16/32/4"])
def test_the_advised_student_fits(shape: str, tiny_bert: Any) -> None:
    """The teacher is 3/24/48/4."""
    teacher, weights = tiny_bert(), dict.fromkeys(LOSSES, 1.0)
    options: dict[str, Any] = {"layers": "uniform", "init": "teacher", "weights": weights, "relation_heads": None}
    if shape == "2/16/32/4":
        assert Shape.parse(shape).fitted_to(teacher) == Shape.parse(shape)
        return
    with pytest.raises(ToolkitError) as caught:
        plan_student(teacher, shape=shape, **options)
    advised = caught.value.fix.partition("--student ")[2].partition(",")[0]
    assert plan_student(teacher, shape=advised, **options).shape == Shape.parse(advised)


def test_a_wider_student_cannot_be_projected_and_is_told_which_can(tiny_bert: Any) -> None:
    with pytest.raises(ToolkitError, match="2/48/48/4 cannot be projected from a teacher of 3/24/48/4") as caught:
        check_smaller(Shape(2, 48, 48, 4), tiny_bert())
    assert caught.value.fix == "--init random, or --student 2/24/48/4"


def test_a_family_that_gives_its_answers_alone_is_planned_for_them_only() -> None:
    sizes = {"vocab_size": 90, "num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 40}
    teacher = RoFormerForSequenceClassification(RoFormerConfig(num_attention_heads=3, embedding_size=8, **sizes))
    options: dict[str, Any] = {"shape": "2/16/32/4", "layers": "uniform", "relation_heads": None}
    answers = dict.fromkeys(LOSSES, 0.0) | {"prediction": 1.0}
    assert plan_student(teacher, weights=answers, init="random", **options).mapping == (2, 3)
    for weights, init in ((answers, "teacher"), (answers | {"hidden": 1.0}, "random")):
        with pytest.raises(ToolkitError, match="the layers of RoFormerForSequenceClassification") as caught:
            plan_student(teacher, weights=weights, init=init, **options)
        assert "by its answers" in caught.value.fix


def test_a_student_tells_segments_apart_where_its_teacher_has_none() -> None:
    assert student_config(DebertaConfig(), Shape(2, 12, 24, 3), dropout=0.0).type_vocab_size == 2


def test_projections_are_one_for_each_level_or_shared() -> None:
    states = torch.randn(2, 5, 6)
    each, shared = Projections(3, 6, 8), Projections(3, 6, 8, shared=True)
    assert sum(p.numel() for p in each.parameters()) == 3 * (6 * 8 + 8)
    assert sum(p.numel() for p in shared.parameters()) == 6 * 8 + 8
    assert each(states, 2).shape == (2, 5, 8)
    assert not torch.equal(each(states, 0), each(states, 2))
    assert torch.equal(shared(states, 0), shared(states, 2))
    solved = [(torch.full((8, 6), float(i)), torch.full((8,), float(i))) for i in range(3)]
    each.start_from(solved)
    shared.start_from(solved)
    torch.testing.assert_close(each(states, 2), 2 * states.sum(-1, keepdim=True).expand(2, 5, 8) + 2)
    torch.testing.assert_close(shared(states, 2), states.sum(-1, keepdim=True).expand(2, 5, 8) + 1)


def test_a_student_of_the_teachers_own_family_has_its_configuration() -> None:
    teacher = MPNetConfig(vocab_size=99, max_position_embeddings=66, relative_attention_num_buckets=16)
    config = student_config(teacher, Shape(2, 24, 40, 4), dropout=0.2, task=get_task("sst2"), family="teacher")
    assert isinstance(config, MPNetConfig)
    assert Shape.from_config(config) == Shape(2, 24, 40, 4)
    assert (config.vocab_size, config.max_position_embeddings, config.relative_attention_num_buckets) == (99, 66, 16)
    assert (config.num_labels, config.hidden_dropout_prob) == (2, 0.2)
    assert config.problem_type == "single_label_classification"
    assert Shape.from_config(teacher) == Shape(12, 768, 3072, 12)


def test_a_family_without_students_of_its_own_is_refused() -> None:
    with pytest.raises(ToolkitError, match="--student-family teacher: students of roberta cannot be built") as caught:
        student_config(RobertaConfig(), Shape(2, 24, 40, 4), dropout=0.0, family="teacher")
    assert caught.value.fix == "--student-family bert"


def test_by_default_an_mpnet_teaches_an_mpnet_and_any_other_a_bert() -> None:
    mpnet, roberta, bert = MPNetConfig(), RobertaConfig(), BertConfig()
    shape = Shape(2, 24, 40, 4)
    assert isinstance(student_config(mpnet, shape, dropout=0.0), MPNetConfig)
    assert isinstance(student_config(mpnet, shape, dropout=0.0, start=mpnet), MPNetConfig)
    for teacher, start in ((roberta, None), (bert, None), (mpnet, bert), (bert, mpnet)):
        assert isinstance(student_config(teacher, shape, dropout=0.0, start=start), BertConfig)
