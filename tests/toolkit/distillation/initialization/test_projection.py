"""A projected student: the teacher itself at the teacher's shape, nearer than chance below, never larger."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from toolkit.distillation.initialization.projection import project_from_teacher
from toolkit.errors import ToolkitError
from toolkit.models.student import Shape, student_config
from toolkit.models.unrolling import unroll
from toolkit.tasks import Task

TASK = Task("auto", ("negative", "positive"))

SIZES = {"vocab_size": 90, "num_hidden_layers": 4, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4}


def batches(count: int = 6) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    made = []
    for _ in range(count):
        mask = (torch.arange(12)[None] < torch.randint(4, 13, (16, 1))).long()
        ids = torch.randint(5, 90, (16, 12)) * mask + (1 - mask)
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})
    return made


def random_model(config: Any) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
        elif "LayerNorm" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def student_of(teacher: Any, shape: Shape) -> Any:
    torch.manual_seed(5)
    config = student_config(teacher.config, shape, dropout=0.0, task=TASK, family="bert")
    return transformers.BertForSequenceClassification(config).eval()


def test_a_student_of_the_teachers_own_shape_is_the_teacher() -> None:
    """Nothing is cut, every layer is mapped to itself: all that may differ is the ridge of the regressions."""
    teacher = random_model(transformers.BertConfig(**SIZES))
    student = student_of(teacher, Shape(4, 24, 40, 4))
    sample = batches(40)
    project_from_teacher(student, teacher, (1, 2, 3, 4), sample)
    mask = sample[0]["attention_mask"].bool()
    with torch.no_grad():
        student_output, teacher_output = (m(**sample[0], output_hidden_states=True) for m in (student, teacher))
    torch.testing.assert_close(
        student_output.hidden_states[0][mask], teacher_output.hidden_states[0][mask], atol=1e-3, rtol=0
    )
    last_error = (student_output.hidden_states[-1] - teacher_output.hidden_states[-1])[mask].square().mean()
    assert last_error < 0.02 * teacher_output.hidden_states[-1][mask].var()


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "MPNet", "Albert"])
def test_every_family_gives_a_student_nearer_than_chance(family: str) -> None:
    sizes = dict(SIZES)
    if family == "DistilBert":
        sizes = {"vocab_size": 90, "n_layers": 4, "dim": 24, "hidden_dim": 40, "n_heads": 4}
    if family in ("Electra", "Albert"):
        sizes["embedding_size"] = 16
    teacher = unroll(random_model(getattr(transformers, f"{family}Config")(**sizes)))
    shape = Shape(2, 20, 32, 4)
    projected, untouched = student_of(teacher, shape), student_of(teacher, shape)
    sample = batches(12)
    solved = project_from_teacher(projected, teacher, (2, 4), sample)
    assert [weight.shape for weight, _ in solved] == [(24, 20)] * 3
    with torch.no_grad():
        feed = dict(sample[0])
        if family in ("DistilBert", "MPNet"):
            del feed["token_type_ids"]
        expected = teacher(**feed).logits
        near, far = ((m(**sample[0]).logits - expected).square().mean() for m in (projected, untouched))
    assert near < 0.5 * far


def test_a_larger_student_is_refused() -> None:
    teacher = random_model(transformers.BertConfig(**SIZES))
    with pytest.raises(ToolkitError, match="cannot be projected from a teacher of 4/24/40/4") as caught:
        project_from_teacher(student_of(teacher, Shape(2, 24, 48, 4)), teacher, (2, 4), batches(1))
    assert "--init random" in caught.value.fix


def test_mpnets_own_family_keeps_what_a_bert_of_the_same_shape_loses() -> None:
    """MPNet adds a bias by relative position to its scores; a BERT has none."""
    teacher = random_model(transformers.MPNetConfig(**SIZES, max_position_embeddings=18, pad_token_id=1))
    sample, errors = batches(60), {}
    for family in ("bert", "teacher"):
        config = student_config(teacher.config, Shape(4, 24, 40, 4), dropout=0.0, task=TASK, family=family)
        student = transformers.AutoModelForSequenceClassification.from_config(config).eval()
        project_from_teacher(student, teacher, (1, 2, 3, 4), sample)
        feeds = [{name: batch[name] for name in ("input_ids", "attention_mask")} for batch in sample]
        with torch.no_grad():
            actual, expected = (torch.cat([model(**feed).logits for feed in feeds]) for model in (student, teacher))
        errors[family] = float((actual - expected).square().mean() / expected.var())
    assert errors["teacher"] < 1e-3
    assert errors["teacher"] < 0.05 * errors["bert"]
