"""Small real things to test with: a trained WordPiece tokenizer, tiny models of every family, separable data."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from tokenizers import Tokenizer

import toolkit  # noqa: F401  # turns onnxruntime's telemetry off before a test imports it
from tests.support.browser import find_browser
from tests.support.data import BAD, FILLER, GOOD, rows, write_csv
from tests.support.models import word_pieces

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # before any test imports the hub's client


settings.register_profile("house", deadline=None, derandomize=True)  # busy machines are slow, not wrong


settings.load_profile("house")


def pytest_collection_finish() -> None:
    """Keep the collector from walking the imported libraries again: accelerate makes it at every stage's ends."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def browser() -> str:
    """Path of a Chromium."""
    return find_browser()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv (320 rows, of which 64 choose the step) and dev.csv (96) of a task that is learnt in seconds."""
    folder = tmp_path_factory.mktemp("data")
    write_csv(folder / "train.csv", rows(320, seed=1))
    write_csv(folder / "dev.csv", rows(96, seed=2))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """`word_pieces` of the words that `sentence` uses."""
    return word_pieces([*GOOD, *BAD, *FILLER])


@pytest.fixture(scope="session")
def save_model(tokenizer: Tokenizer) -> Callable[..., Path]:
    """Save any transformers classifier with the small tokenizer, as a Hugging Face directory."""

    def save(model: object, path: Path) -> Path:
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
            mask_token="[MASK]", model_max_length=64,
        )  # fmt: skip
        model.save_pretrained(path)  # type: ignore[attr-defined]
        fast.save_pretrained(path)
        return path

    return save


@pytest.fixture(scope="session")
def tiny_bert(tokenizer: Tokenizer) -> Callable[..., object]:
    """Make a seeded random BERT classifier: 3 layers, 24 hidden, 48 FFN, 4 heads unless told otherwise."""

    def make(seed: int = 0, **changes: object) -> object:
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(seed)
        settings: dict[str, object] = {
            "vocab_size": tokenizer.get_vocab_size(), "num_hidden_layers": 3, "hidden_size": 24,
            "intermediate_size": 48, "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
            "id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1},
            "initializer_range": 0.2,
        }  # fmt: skip
        return BertForSequenceClassification(BertConfig(**{**settings, **changes})).eval()

    return make


@pytest.fixture(scope="session")
def tiny_teacher(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., object], save_model: Callable[..., Path],
    data_dir: Path,
) -> Path:  # fmt: skip
    """A bundle fine-tuned on `data_dir`, good enough to be learnt from."""
    from toolkit.config import FinetuneConfig
    from toolkit.training.finetune import run_finetune

    folder = tmp_path_factory.mktemp("teachers")
    plain = save_model(tiny_bert(initializer_range=0.05), folder / "plain")
    run_finetune(FinetuneConfig(str(plain), "auto", str(folder / "teacher"), data=str(data_dir), epochs=6, lr=5e-3))
    return folder / "teacher"


@pytest.fixture(scope="session")
def tiny_student(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., object], save_model: Callable[..., Path]
) -> Path:
    """A sealed PyTorch bundle with random weights for the task in `data_dir`; weights are large, so labels vary."""
    from toolkit.bundle.format import write_bundle
    from toolkit.tasks import Task

    out = tmp_path_factory.mktemp("bundles") / "student"
    task = Task("auto", ("negative", "positive"), metrics=("accuracy", "f1"))
    manifest = {
        "kind": "student", "task": task.to_dict(), "precision": "fp32", "max_length": 32, "parent": None,
        "config": {}, "seed": 0, "split": "dev", "metrics": {},
    }  # fmt: skip
    with write_bundle(out, manifest) as staging:
        save_model(tiny_bert(), staging)
    return out


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """`tiny_student` as a sealed fp32 ONNX bundle, exported by PyTorch alone: same weights, same answers."""
    import shutil
    import warnings

    import torch
    from transformers import AutoModelForSequenceClassification

    from toolkit.bundle.format import open_bundle, write_bundle

    parent = open_bundle(tiny_student)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_student, attn_implementation="eager").eval()
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask", "token_type_ids")}
    example = torch.ones(2, 8, dtype=torch.long)
    out = tmp_path_factory.mktemp("bundles") / "onnx"
    manifest = {
        "kind": "onnx", "task": parent.task.to_dict(), "precision": "fp32", "max_length": parent.max_length,
        "parent": parent.digest, "config": {}, "seed": 0, "split": "dev", "metrics": {},
    }  # fmt: skip
    with write_bundle(out, manifest) as staging:
        for name in parent.manifest["files"]:
            if not name.endswith(".safetensors"):
                shutil.copy(tiny_student / name, staging / name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracing exporter warns about itself
            torch.onnx.export(
                model, (example, example, 0 * example), staging / "model.onnx", input_names=list(axes),
                output_names=["logits"], dynamic_axes=axes | {"logits": {0: "batch"}}, dynamo=False, opset_version=17,
            )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """`tiny_onnx`, sealed with the baseline of 1,000 rows."""
    from tests.support.watching import save_with_baseline

    return save_with_baseline(tiny_onnx, tmp_path_factory.mktemp("bundles") / "watched", rows(1000, seed=31))


@pytest.fixture(scope="session")
def overconfident(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """`tiny_onnx`, sealed with the calibration that its scores need if its logits are 2.5 times too large."""
    import shutil

    from tests.support.calibrating import calibration
    from toolkit.bundle.calibration import write_calibration
    from toolkit.bundle.format import open_bundle, write_bundle

    parent = open_bundle(tiny_onnx)
    manifest = {key: value for key, value in parent.manifest.items() if key not in ("files", "digest")}
    out = tmp_path_factory.mktemp("bundles") / "calibrated"
    with write_bundle(out, manifest) as staging:  # type: ignore[arg-type]
        for name in parent.manifest["files"]:
            shutil.copy(tiny_onnx / name, staging / name)
        write_calibration(staging, calibration(2.5))
    return out
