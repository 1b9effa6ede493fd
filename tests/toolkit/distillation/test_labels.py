"""The order of outputs by name, and outputs that are moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from toolkit.distillation.labels import in_teacher_order, places_by_name, reorder_outputs
from toolkit.errors import ToolkitError
from toolkit.models.loading import output_names
from toolkit.tasks import Task


def test_outputs_are_found_by_name_whatever_its_case() -> None:
    assert places_by_name(("entailment", "not_entailment"), ("Not-Entailment", "ENTAILMENT")) == [1, 0]
    assert places_by_name(("a", "b", "c"), ("c", "a", "b")) == [1, 2, 0]
    assert places_by_name(("a", "b"), ("LABEL_0", "LABEL_1")) is None
    assert places_by_name(("a", "b"), ("a", "c")) is None
    assert places_by_name(("a", "A"), ("A", "a")) == [1, 0]
    assert places_by_name(("a", "a"), ("A", "a")) is None, "names that are the same in any case decide nothing"


def test_a_task_takes_the_teacher_s_order() -> None:
    task = Task("auto", ("negative", "neutral", "positive"))
    assert in_teacher_order(task, ("Positive", "Neutral", "Negative")).labels == ("positive", "neutral", "negative")
    assert in_teacher_order(task, ("LABEL_0", "LABEL_1", "LABEL_2")) == task


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra"])
def test_outputs_move_with_their_rows(family: str) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "dim": 8, "intermediate_size": 8, "hidden_dim": 8, "num_hidden_layers": 1, "n_layers": 1}
    heads = {"num_attention_heads": 2, "n_heads": 2, "vocab_size": 20, "max_position_embeddings": 20, "num_labels": 3}
    config = getattr(transformers, f"{family}Config")(**sizes, **heads)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    ids = torch.randint(3, 20, (4, 6))
    with torch.inference_mode():
        before = model(ids).logits
        reorder_outputs(model, [2, 0, 1], ("x", "y", "z"))
        after = model(ids).logits
    assert torch.equal(after, before[:, [2, 0, 1]])
    assert before.std() > 0
    assert output_names(model.config) == ("x", "y", "z")


def test_a_head_that_is_not_known_is_refused(tiny_bert: Callable[..., Any]) -> None:
    model = tiny_bert()
    model.classifier = nn.Sequential(nn.Linear(24, 2), nn.Linear(2, 5))
    with pytest.raises(ToolkitError, match="cannot be put in another order"):
        reorder_outputs(model, [1, 0], ("a", "b"))
