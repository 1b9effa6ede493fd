"""Teachers of every family go through distillation, int8 export and serving: by their layers, or by answers only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from fastapi.testclient import TestClient
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from serve.app import create_app
from tests.support.data import BAD, FILLER, GOOD
from tests.support.exporting import export_loosely
from tests.support.models import own_answers, word_pieces
from tests.support.paths import ROOT
from tests.support.tokenizers import ALBERT, DEBERTA, MODERNBERT, XLMR, byte_pairs, sentence_pieces
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig, FinetuneConfig
from toolkit.distillation.data import trim_reader
from toolkit.distillation.distill import run_distill
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import open_predictor
from toolkit.models.families import family_name
from toolkit.models.loading import Source
from toolkit.models.trimming import trim_model
from toolkit.tasks import Task
from toolkit.training.distributed import model_logits
from toolkit.training.finetune import run_finetune

WORDS = [*GOOD, *BAD, *FILLER]
NAMES = ["bad", "good", "other"]
BERT = {role: f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
SIZES: dict[str, Any] = {
    "num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4,
    "max_position_embeddings": 40, "initializer_range": 0.05,
}  # fmt: skip
DISENTANGLED = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
DEBERTA_V3 = {**DISENTANGLED, "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 16}


@dataclass(frozen=True)
class Case:
    """A family, its tokenizer and what is particular to it; `reason` is that of a teacher by answers only."""

    family: str
    make: Callable[[list[str]], Tokenizer]
    special: dict[str, str]
    sizes: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    slow: bool = False  # nothing of it is new beside the others, and test_distill_families, but that all of it runs


def sentences(special: dict[str, str]) -> Callable[[list[str]], Tokenizer]:
    return lambda words: sentence_pieces(words, special)


OTHER_PARTS = " teaches by its answers only: its layers have other parts than BERT's"
RANDOM = {"init": "random"}
CASES = [
    Case("Roberta", byte_pairs, XLMR, slow=True),
    Case("XLMRoberta", sentences(XLMR), XLMR, options={"vocabulary_limit": 60}),
    Case("Camembert", sentences(XLMR), XLMR, slow=True),
    Case("Electra", word_pieces, BERT, {"embedding_size": 16}, slow=True),
    Case("DistilBert", word_pieces, BERT, slow=True),
    Case("MPNet", word_pieces, BERT, slow=True),
    Case("Albert", sentences(ALBERT), ALBERT, {"embedding_size": 16}),
    Case("ModernBert", lambda words: byte_pairs(words, MODERNBERT), MODERNBERT,
         {"global_attn_every_n_layers": 2, "local_attention": 8}, f"ModernBERT{OTHER_PARTS}", RANDOM),
    Case("DebertaV2", sentences(DEBERTA), DEBERTA, DISENTANGLED, f"DeBERTa-v2{OTHER_PARTS}", RANDOM, slow=True),
    Case("DebertaV2", sentences(DEBERTA), DEBERTA, DEBERTA_V3, f"DeBERTa-v2{OTHER_PARTS}",
         {**RANDOM, "vocabulary_limit": 60}),
]  # fmt: skip


def make_teacher(case: Case, folder: Path, names: list[str] = NAMES) -> tuple[Any, Tokenizer]:
    """Write a random classifier of a family with its tokenizer; its mean logits are 0 on what `write_task` writes."""
    tokenizer = case.make([*WORDS, "lantern", "gravel"])  # two that no text has
    ids = {f"{role}_token_id": tokenizer.token_to_id(name) for role, name in case.special.items()}
    config = getattr(transformers, f"{case.family}Config")(
        **{**SIZES, **ids, **case.sizes}, vocab_size=tokenizer.get_vocab_size(),
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    special = {f"{role}_token": name for role, name in case.special.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return model, tokenizer


def write_task(model: Any, tokenizer: Tokenizer, folder: Path, order: list[int] | None = None) -> None:
    """Write train.jsonl and dev.jsonl with the teacher's own answers as labels: output i has the name order[i]."""
    random = np.random.default_rng(7)
    texts = [" ".join(random.choice(WORDS[:-2], 6)) for _ in range(96)]
    answers = own_answers(model, tokenizer, texts).argmax(1)
    order = order or list(range(len(NAMES)))
    folder.mkdir()
    lines = [json.dumps({"text": text, "label": NAMES[order[i]]}) for text, i in zip(texts, answers, strict=True)]
    for name, part in (("train", lines[:48]), ("dev", lines[48:])):
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")


def settings(folder: Path, **changes: Any) -> DistillConfig:
    options: dict[str, Any] = {
        "data": str(folder / "data"), "student": "2/16/32/4", "max_length": 24,
        "prediction_epochs": 6, "prediction_lr": 5e-3, "batch_size": 16,
    }  # fmt: skip
    return DistillConfig(str(folder / "teacher"), "auto", str(folder / "student"), **{**options, **changes})


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if case.slow else []) for case in CASES],
    ids=[f"{case.family}{i}" for i, case in enumerate(CASES)],
)
def test_every_family_teaches_a_student_that_is_exported_and_served(
    case: Case, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = make_teacher(case, tmp_path / "plain", ["negative", "positive"])
    model.save_pretrained(tmp_path / "plain")
    plain, teacher = str(tmp_path / "plain"), str(tmp_path / "teacher")
    run_finetune(FinetuneConfig(plain, "auto", teacher, data=str(data_dir), epochs=12, lr=5e-3))
    stage_a = {} if case.reason else {"intermediate_epochs": 1}
    capsys.readouterr()
    bundle = run_distill(settings(tmp_path, data=str(data_dir), **stage_a, **case.options))
    output, manifest = capsys.readouterr().out, bundle.manifest
    assert manifest["teacher_metrics"] == open_bundle(teacher).manifest["metrics"], "it reads its own pieces"
    assert manifest["metrics"]["accuracy"] > 0.8
    if case.reason:
        assert case.reason in output
        assert set(manifest["stages"]) == {"prediction"}
        assert manifest["layer_map"] == []
        assert "taught by its answers only" in (bundle.path / "report.html").read_text()
    else:
        assert "answers only" not in output
        first = manifest["stages"]["intermediate"]["history"][0]
        assert all(first[name] > 0 for name in ("attention", "hidden", "embedding"))
    kept = bundle.config["vocab_size"]
    assert ("is cut to the" in output) == ("vocabulary_limit" in case.options) == (kept < tokenizer.get_vocab_size())
    assert bundle.config["model_type"] == ("mpnet" if case.family == "MPNet" else "bert")
    int8 = export_loosely(bundle.path, data_dir, tmp_path / "int8")
    with TestClient(create_app(int8.path)) as client:
        answers = [
            client.post("/predict", json={"inputs": f"the film was {word}"}).json()[0] for word in ("good", "bad")
        ]
    assert [answer["label"] for answer in answers] == ["positive", "negative"]


def test_the_documentation_names_every_family_that_is_tested() -> None:
    page = (ROOT / "docs" / "distillation.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([\w -]+) \| (layers and answers|answers only) \|", page, re.MULTILINE))
    configs = [getattr(transformers, f"{case.family}Config") for case in CASES]
    tested = {
        family_name(config): "answers only" if case.reason else "layers and answers"
        for case, config in zip(CASES, configs, strict=True)
    }
    elsewhere = {"BERT": "layers and answers", "X-MOD": "layers and answers", "RoFormer": "answers only"}
    assert table == tested | elsewhere


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "--init teacher would project its layers"),
        ({**RANDOM, "objective": "relations"}, "--objective relations cannot be"),
        ({**RANDOM, "loss": "hidden=2", "intermediate_epochs": 7}, "--loss hidden, --intermediate-epochs 7 cannot be"),
        ({**RANDOM, "student_family": "teacher"}, "--student-family teacher cannot be"),
    ],
)
def test_options_that_need_layers_are_refused_before_the_first_step(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sizes = {"embedding_size": 24}
    model, _ = make_teacher(Case("RoFormer", word_pieces, BERT, sizes), tmp_path / "teacher")
    model.save_pretrained(tmp_path / "teacher")
    with pytest.raises(ToolkitError, match="RoFormer teaches by its answers only: its layers have other") as caught:
        run_distill(settings(tmp_path, data="nowhere", **changes))
    assert words in caught.value.problem


@pytest.fixture
def other_teacher(tmp_path: Path) -> Any:
    """A RoBERTa whose outputs are LABEL_0 and so on, and stand in another order than the task's labels."""
    case = Case("Roberta", byte_pairs, XLMR)
    model, tokenizer = make_teacher(case, tmp_path / "teacher", ["LABEL_0", "LABEL_1", "LABEL_2"])
    write_task(model, tokenizer, tmp_path / "data", order=[2, 0, 1])
    model.save_pretrained(tmp_path / "teacher")
    return model


def test_a_student_of_other_pieces_reads_its_encoder_s(
    other_teacher: Any, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path, init=str(encoder), selection_rows=0)
    with pytest.raises(ToolkitError, match="stand in another order than the task's") as caught:
        run_distill(config)
    assert "--match-labels" in caught.value.fix
    bundle = run_distill(replace(config, match_labels=True))
    output = capsys.readouterr().out
    assert f"the student learns the layers of {encoder}, which it is projected from, and the answers of" in output
    assert list(bundle.manifest["stages"]) == ["intermediate", "prediction"]
    assert bundle.manifest["teacher_metrics"]["accuracy"] > 0.99, "it reads its own pieces, its outputs in order"
    assert list(bundle.task.labels) == NAMES
    assert (bundle.path / "tokenizer.json").read_bytes() == (encoder / "tokenizer.json").read_bytes()
    assert bundle.manifest["made_from"]["start"]["name"] == str(encoder)
    assert bundle.manifest["metrics"]["accuracy"] > bundle.manifest["start_metrics"]["accuracy"] - 0.1


def test_a_student_of_a_tokenizer_s_pieces(
    other_teacher: Any, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("toolkit.distillation.duration.LEAST_STEPS", 1)
    config = settings(
        tmp_path, **RANDOM, student_tokenizer=str(encoder), match_labels=True, vocabulary_limit=50, prediction_epochs=1
    )
    bundle = run_distill(config)
    output = capsys.readouterr().out
    assert f"the student reads the word pieces of {encoder}" in output
    # the teacher has answered by then, and does not know the student's ids
    assert re.search(r"about .* from here, going by 6 steps: \S+ \S+ for stage b\n", output)
    vocabulary = bundle.manifest["vocabulary"]
    assert vocabulary["kept"] == bundle.config["vocab_size"] < vocabulary["of"]
    predictor = open_predictor(bundle.path)
    tokens = predictor.encoder.tokens(predictor.encoder.encode(["the film is zz"]).ids[0])
    assert tokens == ["[CLS]", "the", "film", "is", "z", "##z", "[SEP]"]


def test_a_trimmed_teacher_gives_the_answers_that_it_gave(tmp_path: Path) -> None:
    model, _ = make_teacher(CASES[1], tmp_path / "teacher")
    model.eval().save_pretrained(tmp_path / "teacher")
    source = Source(str(tmp_path / "teacher"), tmp_path / "work")
    texts = ["the film was good", "a dull plot, zz", "\u4e2d"]
    size = source.config.vocab_size
    assert trim_reader(source, (texts, None), size, tmp_path) == (source, None)
    reader, trimmed = trim_reader(source, (texts, None), size - 1, tmp_path)
    assert trimmed is not None
    assert reader.config.vocab_size == len(trimmed.ids) < size
    assert reader.tokenizer.mask_token_id == len(trimmed.ids) - 1
    task = Task("auto", tuple(NAMES))
    before, after = (reads.encoder(task, 20).encode(texts) for reads in (source, reader))
    expected = model_logits(model, before)
    trim_model(trimmed, model)
    np.testing.assert_array_equal(model_logits(model, after), expected)


def test_a_vocabulary_whose_padding_would_move_stays_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = make_teacher(CASES[1], tmp_path / "teacher")
    model.save_pretrained(tmp_path / "teacher")
    source = Source(str(tmp_path / "teacher"), tmp_path / "work")
    source.config.pad_token_id = source.tokenizer.mask_token_id  # the last piece
    assert trim_reader(source, (["good"], None), 10, tmp_path) == (source, None)
    assert "stays whole: its padding stands behind other pieces" in capsys.readouterr().out
