"""Students that start from an encoder other than the teacher: nearer than chance, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tests.support.data import rows
from toolkit.data.tokenization import TextEncoder
from toolkit.distillation.initialization.encoder import fit_to_teacher
from toolkit.distillation.initialization.student import ModelPair, initialize_student
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import TorchRuntime, batched_logits
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.tasks import get_task

TEXTS = [text for text, _ in rows(1024, seed=3)]
UNREAD = [text for text, _ in rows(128, seed=4)]


def start(teacher: Path, init: str, workdir: Path) -> ModelPair:
    source, plan = Source(str(teacher), workdir), StudentPlan(Shape(2, 16, 32, 4), (1, 3), init)
    texts = TextEncoder(teacher, 64).encode(TEXTS)
    return initialize_student(plan, source, source.classifier(), texts, get_task("sst2"))


def family_of(name: str, tokenizer: Tokenizer, save_model: Callable[..., Path], path: Path, **changes: Any) -> Path:
    sizes = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4} | changes
    if name == "DistilBert":
        sizes = {"n_layers": 3, "dim": 24, "hidden_dim": 48, "n_heads": 4}
    torch.manual_seed(4)
    config = getattr(transformers, f"{name}Config")(
        **sizes, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=66, initializer_range=0.2
    )
    return save_model(getattr(transformers, f"{name}Model")(config).eval(), path)


def compare(pair: ModelPair, teacher: Path) -> tuple[float, float]:
    """On unread texts: the fraction that student and teacher label alike, and the squared error of the logits."""
    encoded = TextEncoder(teacher, 64).encode(UNREAD)
    student, taught = (batched_logits(TorchRuntime(model), encoded) for model in (pair.student, pair.teacher))
    return float((student.argmax(1) == taught.argmax(1)).mean()), float(((student - taught) ** 2).mean())


def test_an_encoder_that_knows_the_words_starts_a_student_that_agrees_more_than_a_random_one(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    projected, _ = compare(start(tiny_teacher, str(tiny_teacher), tmp_path), tiny_teacher)
    drawn, _ = compare(start(tiny_teacher, "random", tmp_path), tiny_teacher)
    assert projected > drawn + 0.2


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Electra", "MPNet"])
def test_a_larger_encoder_of_any_family_starts_a_student_nearer_than_a_random_one(
    family: str, tiny_teacher: Path, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = family_of(family, tokenizer, save_model, tmp_path / "encoder")
    _, projected = compare(start(tiny_teacher, str(encoder), tmp_path), tiny_teacher)
    _, drawn = compare(start(tiny_teacher, "random", tmp_path), tiny_teacher)
    assert projected < drawn


def test_an_encoder_of_the_students_shape_and_another_family_is_projected(
    tiny_teacher: Path, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}
    encoder = family_of("Electra", tokenizer, save_model, tmp_path / "encoder", embedding_size=16, **sizes)
    pair = start(tiny_teacher, str(encoder), tmp_path)
    assert pair.student.config.model_type == "bert"
    states = [layer.output.dense.weight for layer in pair.student.bert.encoder.layer]
    stored = load_file(encoder / "model.safetensors")["encoder.layer.1.output.dense.weight"]
    assert torch.nn.functional.cosine_similarity(states[1].flatten(), stored.flatten(), dim=0) > 0.9


def test_an_encoder_with_fewer_positions_reads_cut_texts(
    tiny_teacher: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = save_model(tiny_bert(7, max_position_embeddings=8, type_vocab_size=1), tmp_path / "encoder")
    assert np.isfinite(compare(start(tiny_teacher, str(encoder), tmp_path), tiny_teacher)).all()


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({"num_hidden_layers": 1}, "1/24/48/4"),
        ({"hidden_size": 8}, "3/8/48/4"),
        ({"intermediate_size": 20}, "3/24/20/4"),
        ({"num_attention_heads": 2}, "3/24/48/2"),
    ],
)
def test_an_encoder_smaller_than_the_student_is_refused_with_its_shape(
    sizes: dict[str, int], shape: str, tiny_teacher: Path, tiny_bert: Any, save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    encoder = save_model(tiny_bert(1, **sizes), tmp_path / "encoder")
    with pytest.raises(ToolkitError, match=f"a student of 2/16/32/4 cannot start from --init .*, which is {shape}"):
        start(tiny_teacher, str(encoder), tmp_path)


def test_an_encoder_of_other_word_pieces_is_refused(tiny_teacher: Path, tiny_bert: Any, tmp_path: Path) -> None:
    from tests.support.models import word_pieces

    other = word_pieces([f"word{number}" for number in range(40)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=other, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path / "encoder")
    tiny_bert(vocab_size=other.get_vocab_size()).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ToolkitError, match="has another vocabulary than"):
        start(tiny_teacher, str(tmp_path / "encoder"), tmp_path)


def test_an_encoder_without_all_its_tensors_is_refused(
    tiny_teacher: Path, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = save_model(tiny_bert(1), tmp_path / "encoder")
    weights = load_file(encoder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ToolkitError, match=r"encoder\.layer\.1\.output\.dense\.weight is missing"):
        start(tiny_teacher, str(encoder), tmp_path)


def test_an_encoder_whose_layers_are_not_known_is_refused(
    tiny_teacher: Path, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = family_of("RoFormer", tokenizer, save_model, tmp_path / "encoder", embedding_size=24)
    with pytest.raises(ToolkitError, match="cannot be projected: its layers have other parts than BERT's"):
        start(tiny_teacher, str(encoder), tmp_path)


def test_projections_and_classifier_are_fitted_and_nothing_else(tiny_bert: Any) -> None:
    """A student that is its teacher: the projections are the identity, and the logits the teacher's."""
    teacher, student = tiny_bert(), tiny_bert()
    with torch.no_grad():
        student.classifier.weight.zero_()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    ids = torch.randint(5, 60, (64, 12), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    fitted = fit_to_teacher(student, teacher, (1, 2, 3), [batch])
    changed = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert len(fitted) == 4
    for weight, _ in fitted:
        torch.testing.assert_close(weight, torch.eye(24), atol=0.1, rtol=0)
    with torch.no_grad():
        actual, expected = (model(**batch).logits for model in (student, teacher))
    assert (actual - expected).square().mean() < 0.01 * expected.var()
