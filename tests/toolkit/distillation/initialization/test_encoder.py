"""Students that are projected from an encoder other than the teacher, and learn its layers; or the reason why not."""

from __future__ import annotations

import json
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
from tests.support.distillation import distill
from toolkit.data.tokenization import EncodedTexts
from toolkit.data.vocabulary import TrimmedVocabulary, select_pieces
from toolkit.distillation.initialization.encoder import fit_head, open_encoder
from toolkit.distillation.initialization.student import ModelPair, initialize_student
from toolkit.errors import ToolkitError
from toolkit.models.families import head_modules, model_inputs
from toolkit.models.loading import Source
from toolkit.models.student import Shape, StudentPlan
from toolkit.models.trimming import trim_model, trimmed_source
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits

TASK = Task("auto", ("negative", "positive"))
TEXTS, LABELS = zip(*rows(400, seed=2), strict=True)
LOGITS = np.where(np.array(LABELS)[:, None] == np.arange(2), 2.0, -2.0).astype(np.float32)
SMALL = Shape(2, 16, 32, 4)


def project(
    path: Path, workdir: Path, texts: int = len(TEXTS), trimmed: TrimmedVocabulary | None = None
) -> tuple[ModelPair, EncodedTexts]:
    """Project an encoder, perhaps of a trimmed vocabulary, into a student of answers."""
    source = reader = Source(str(path), workdir)
    encoder, plan = open_encoder(source, SMALL, str(path)), StudentPlan(SMALL, (1, 3), str(path))
    if trimmed is not None:
        reader = trimmed_source(source, trimmed, workdir / "trimmed")
        trim_model(trimmed, encoder)
    encoded = reader.encoder(TASK, None).encode(TEXTS[:texts])
    pair = initialize_student(
        plan, reader, None, encoder, encoded, TASK, start=source, answers=lambda: LOGITS, precision="fp32", seed=1
    )
    return pair, encoded


def family_of(name: str, tokenizer: Tokenizer, save_model: Callable[..., Path], path: Path, **changes: Any) -> Path:
    sizes = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4} | changes
    if name == "DistilBert":
        sizes = {"n_layers": 3, "dim": 24, "hidden_dim": 48, "n_heads": 4}
    torch.manual_seed(4)
    config = getattr(transformers, f"{name}Config")(
        **sizes, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=66, initializer_range=0.2
    )
    return save_model(getattr(transformers, f"{name}Model")(config).eval(), path)


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Electra", "MPNet"])
def test_a_larger_encoder_of_any_family_gives_its_layers_and_the_answers_the_head(
    family: str, tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    pair, texts = project(family_of(family, tokenizer, save_model, tmp_path / "encoder"), tmp_path)
    batch = {name: torch.from_numpy(array) for name, array in texts.batch(range(64)).items()}
    mask = batch["attention_mask"].bool()
    with torch.no_grad():
        student, encoder = (
            model(**model_inputs(model, batch), output_hidden_states=True).hidden_states
            for model in (pair.student, pair.layer_teacher)
        )
        for level, g in enumerate((0, 1, 3)):
            states = encoder[g][mask]
            error = (pair.projections(student[level], level)[mask] - states).square().mean() / states.var()  # type: ignore[misc]
            assert error < 0.5, f"level {level} is far from the encoder's"
    fitted = float(np.mean((model_logits(pair.student, texts) - LOGITS) ** 2))
    assert fitted < float(LOGITS.var(axis=0).mean()), "nearer to the answers than their mean is"
    with torch.no_grad():
        head_modules(pair.student)[1].weight += 0.1 * torch.randn(2, 16)
    assert float(np.mean((model_logits(pair.student, texts) - LOGITS) ** 2)) > fitted, "the least squares are least"


def test_the_head_is_fitted_to_answers_and_nothing_else(tiny_bert: Any) -> None:
    """A student that is its teacher gets back the head that it lost."""
    teacher, student = tiny_bert(), tiny_bert()
    with torch.no_grad():
        student.classifier.weight.zero_()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    ids = torch.randint(5, 60, (64, 12), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        expected = teacher(**batch).logits
    fit_head(student, [batch], expected)
    changed = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    with torch.no_grad():
        assert (student(**batch).logits - expected).square().mean() < 0.01 * expected.var()


def test_a_trimmed_vocabulary_keeps_the_embeddings_of_its_pieces(
    tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = save_model(tiny_bert(), tmp_path / "encoder")
    pieces = select_pieces(path, TEXTS[:6])
    (of_all, _), (of_some, _) = project(path, tmp_path / "all", 6), project(path, tmp_path / "some", 6, pieces)
    whole, trimmed = (pair.student.get_input_embeddings().weight for pair in (of_all, of_some))
    assert len(trimmed) == len(pieces.ids) < len(whole)
    torch.testing.assert_close(trimmed, whole[torch.from_numpy(pieces.ids)], atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def other_teacher(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path
) -> Path:
    """A teacher whose layers the student could not learn: it has one, of two heads."""
    from toolkit.config import FinetuneConfig
    from toolkit.training.finetune import run_finetune

    folder = tmp_path_factory.mktemp("teachers")
    plain = save_model(tiny_bert(num_hidden_layers=1, num_attention_heads=2, initializer_range=0.05), folder / "plain")
    run_finetune(FinetuneConfig(str(plain), "auto", str(folder / "t"), data=str(data_dir), epochs=6, lr=5e-3))
    return folder / "t"


def test_a_student_learns_the_layers_of_its_encoder_and_the_answers_of_its_teacher(
    other_teacher: Path, tiny_teacher: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("toolkit.distillation.duration.LEAST_STEPS", 1)
    encoder, out = str(tiny_teacher), tmp_path / "s"
    manifest = distill(other_teacher, data_dir, out, init=encoder, layer_map="top", intermediate_epochs=None)
    output = capsys.readouterr().out.replace("\n", " ")
    assert f"the student learns the layers of {encoder}, which it is projected from, and the answers of" in output
    assert "for stage a" in output
    assert "for the teacher's answers" not in output, "they are there before the student"
    assert manifest["layer_map"] == [2, 3], "of the encoder's three"
    assert manifest["config"]["intermediate_epochs"] == 3, "as of any projected student"
    history = manifest["stages"]["intermediate"]["history"]
    assert history[-1]["hidden"] < history[0]["hidden"]
    assert manifest["metrics"]["accuracy"] > 0.9
    assert manifest["made_from"]["start"]["name"] == encoder
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [report[name]["shape"] for name in ("teacher", "encoder", "student")] == [
        "1/24/48/2", "3/24/48/4", "2/16/32/4",
    ]  # fmt: skip
    assert report["attention"][0]["layers"][0]["teacher_layer"] == 2
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "Which encoder layer each student layer learns from" in html


def test_the_teachers_family_is_refused_for_a_start_of_another(
    other_teacher: Path, tokenizer: Tokenizer, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    encoder = family_of("Electra", tokenizer, save_model, tmp_path / "encoder")
    with pytest.raises(ToolkitError, match="the teacher is BERT, the start ELECTRA"):
        distill(other_teacher, data_dir, tmp_path / "s", init=str(encoder), student_family="teacher")


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
    sizes: dict[str, int], shape: str, tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = save_model(tiny_bert(1, **sizes), tmp_path / "encoder")
    with pytest.raises(ToolkitError, match=f"a student of 2/16/32/4 cannot start from --init .*, which is {shape}"):
        project(encoder, tmp_path)


def test_an_encoder_without_all_its_tensors_is_refused(
    tiny_bert: Any, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = save_model(tiny_bert(1), tmp_path / "encoder")
    weights = load_file(encoder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ToolkitError, match=r"encoder\.layer\.1\.output\.dense\.weight is missing"):
        project(encoder, tmp_path)


def test_an_encoder_whose_layers_are_not_known_is_refused(
    tokenizer: Tokenizer, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = family_of("RoFormer", tokenizer, save_model, tmp_path / "encoder", embedding_size=24)
    with pytest.raises(ToolkitError, match="cannot be projected: its layers have other parts than BERT's"):
        project(encoder, tmp_path)
