"""Every family of teachers and every kind of task through the whole distillation, in any language."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from export.pipeline import run_export
from tests.support.data import BAD, FILLER, GOOD, rows
from tests.support.distillation import distill
from tests.support.models import own_answers, word_pieces
from toolkit.bundle.format import Bundle
from toolkit.config import DistillConfig, EvaluateConfig, ExportConfig, FinetuneConfig
from toolkit.distillation.distill import run_distill
from toolkit.inference.evaluate import run_evaluate
from toolkit.inference.predictor import open_predictor
from toolkit.models.families import model_inputs
from toolkit.training.finetune import run_finetune

Words = tuple[list[str], list[str], list[str]]
ENGLISH = (GOOD, BAD, FILLER)
KOREAN = (["좋다", "최고", "재미있다"], ["나쁘다", "최악", "지루하다"], ["영화", "이", "배우", "정말", "는", "그리고"])
CHINESE = (["好", "棒", "妙"], ["坏", "差", "烂"], ["这", "部", "电", "影", "很", "的", "了"])
SIZES: dict[str, Any] = {
    "num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4,
    "max_position_embeddings": 40, "initializer_range": 0.2, "pad_token_id": 0,
}  # fmt: skip
DISTILBERT = {"n_layers": 3, "dim": 24, "hidden_dim": 48, "n_heads": 4, "max_position_embeddings": 40}
CASES = [
    pytest.param("Roberta", "pairs", ENGLISH, marks=pytest.mark.slow),  # XLM-RoBERTa has the same layers
    ("Electra", "regression", ENGLISH),
    ("DistilBert", "multi_label", ENGLISH),
    ("XLMRoberta", "classes", KOREAN),
    ("Bert", "pairs", CHINESE),
    ("MPNet", "regression", KOREAN),
    pytest.param("Xmod", "classes", ENGLISH, marks=pytest.mark.slow),  # and so has X-MOD, and adapters
]
OUTPUTS = {
    "classes": ["class0", "class1", "class2"], "pairs": ["no", "yes"], "regression": ["score"],
    "multi_label": ["a", "b", "c"],
}  # fmt: skip


def make_teacher(family: str, kind: str, tokenizer: Tokenizer) -> Any:
    """A random model of the family, its outputs named as the task's."""
    sizes = {**(DISTILBERT if family == "DistilBert" else SIZES), "vocab_size": tokenizer.get_vocab_size()}
    if family == "Electra":
        sizes["embedding_size"] = 16
    if family == "Xmod":
        sizes |= {"languages": ["en_XX"], "default_language": "en_XX"}
    labels = dict(enumerate(OUTPUTS[kind]))
    torch.manual_seed(0)
    numbered = {name: i for i, name in labels.items()}
    made = getattr(transformers, f"{family}Config")(**sizes, id2label=labels, label2id=numbered)
    return AutoModelForSequenceClassification.from_config(made)


def label(kind: str, logits: np.ndarray) -> Any:
    """What a data file says of an input that the teacher answers so."""
    names = OUTPUTS[kind]
    if kind == "regression":
        return round(float(logits[0]), 4)
    return [names[i] for i in np.flatnonzero(logits > 0)] if kind == "multi_label" else names[int(logits.argmax())]


def write_data(folder: Path, kind: str, words: Words, teacher: Any, tokenizer: Tokenizer) -> None:
    """train.jsonl and dev.jsonl with the teacher's own answers as labels, so that it knows the task by heart."""
    random, joined = np.random.default_rng(7), "" if words is CHINESE else " "
    every = [word for group in words for word in group]
    texts = [joined.join(random.choice(every, 6)) for _ in range(112)]
    pairs = [joined.join(random.choice(every, 3)) for _ in texts] if kind == "pairs" else None
    lines = [
        {"text": text, "label": label(kind, logits)} | ({"text_pair": pairs[i]} if pairs else {})
        for i, (text, logits) in enumerate(zip(texts, own_answers(teacher, tokenizer, texts, pairs), strict=True))
    ]
    folder.mkdir()
    for name, part in (("train", lines[:64]), ("dev", lines[64:])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def save_teacher(teacher: Any, tokenizer: Tokenizer, folder: Path) -> None:
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    teacher.save_pretrained(folder)


def layer_losses(bundle: Bundle) -> list[dict[str, float]]:
    """The losses of stage a by name, step by step."""
    rows = bundle.manifest["stages"]["intermediate"]["history"]
    return [{name: value for name, value in row.items() if name != "step"} for row in rows]


@pytest.mark.parametrize(("family", "kind", "words"), CASES)
def test_a_student_of_every_teacher(family: str, kind: str, words: Words, tmp_path: Path) -> None:
    tokenizer = word_pieces([word for group in words for word in group], cased=words is KOREAN)
    teacher, outputs = make_teacher(family, kind, tokenizer), len(OUTPUTS[kind])
    write_data(tmp_path / "data", kind, words, teacher, tokenizer)
    save_teacher(teacher, tokenizer, tmp_path / "teacher")
    config = DistillConfig(
        str(tmp_path / "teacher"), "auto", str(tmp_path / "s"), data=str(tmp_path / "data"), student="2/16/32/4",
        max_length=24, intermediate_epochs=8, intermediate_lr=5e-3, prediction_epochs=1, batch_size=16,
    )  # fmt: skip
    fresh = replace(config, out=str(tmp_path / "fresh"), init="random", intermediate_epochs=1, prediction_epochs=0)
    bundle, (untaught, *_) = run_distill(config), layer_losses(run_distill(fresh))
    assert bundle.manifest["teacher_metrics"][bundle.task.metric] > 0.99
    first, *_, last = layer_losses(bundle)
    assert sum(last.values()) < sum(first.values())
    assert all(last[name] < untaught[name] for name in ("attention", "hidden", "embedding"))
    assert len(bundle.task.labels) == outputs
    assert (bundle.task.pair_column is not None) == (kind == "pairs")
    predictor = open_predictor(tmp_path / "s")
    text = ("" if words is CHINESE else " ").join([words[0][0], words[2][0], words[1][0]])
    encoded = predictor.encoder.encode([text], [words[2][1]] if kind == "pairs" else None)
    assert "[UNK]" not in predictor.encoder.tokens(encoded.ids[0])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "s").eval()
    assert model.config.model_type == ("mpnet" if family == "MPNet" else "bert")
    with torch.no_grad():
        batch = {name: torch.from_numpy(array) for name, array in encoded.batch([0]).items()}
        logits = model(**model_inputs(model, batch)).logits
    assert logits.shape == (1, outputs)
    np.testing.assert_allclose(predictor.runtime.run(encoded.batch([0])), logits.numpy(), atol=1e-5)


def test_a_student_of_mpnets_own_family_is_exported_and_answers(
    tokenizer: Tokenizer, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    config = transformers.MPNetConfig(
        **SIZES | {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 66, "initializer_range": 0.05},
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    plain = save_model(transformers.MPNetForSequenceClassification(config), tmp_path / "plain")
    teacher, student, int8 = (tmp_path / name for name in ("teacher", "student", "int8"))
    run_finetune(FinetuneConfig(str(plain), "auto", str(teacher), data=str(data_dir), epochs=6, lr=5e-3))
    own = {"student_family": "teacher", "quantization_aware": True}
    manifest = distill(teacher, data_dir, student, **own)
    assert manifest["metrics"]["accuracy"] > 0.9
    assert AutoModelForSequenceClassification.from_pretrained(student).config.model_type == "mpnet"
    gates = run_export(ExportConfig(str(student), str(int8), data=str(data_dir), max_drop=3.0)).manifest["gates"]
    assert all(verdict["passed"] for verdict in gates["verdicts"])
    assert gates["max_batch_difference"] <= 1e-5
    texts = [text for text, _ in rows(64, seed=9)]
    logits = open_predictor(student).predict(texts), open_predictor(int8).predict(texts)
    assert (logits[0].argmax(1) == logits[1].argmax(1)).mean() > 0.9
    assert run_evaluate(EvaluateConfig(str(int8), data=str(data_dir))).metrics["accuracy"] > 0.9
