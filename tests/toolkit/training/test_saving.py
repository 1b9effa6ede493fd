"""A trained model becomes a bundle with its source's tokenizer, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from toolkit.bundle.format import open_bundle
from toolkit.data.tokenization import TextEncoder
from toolkit.models.loading import Source
from toolkit.tasks import Task
from toolkit.training.saving import write_model

TASK = Task("auto", ("negative", "positive"))


def manifest() -> dict[str, Any]:
    return {
        "kind": "student", "task": TASK.to_dict(), "precision": "fp32", "max_length": 32, "parent": None,
        "config": {}, "seed": 0, "metrics": {},
    }  # fmt: skip


def test_a_model_and_its_tokenizer_come_back(tiny_student: Path, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    model, out = tiny_bert(seed=5, num_hidden_layers=2), tmp_path / "out"
    bundle = write_model(str(out), manifest(), model, Source(str(tiny_student), tmp_path))
    assert bundle.digest == open_bundle(out).digest
    opened = AutoModelForSequenceClassification.from_pretrained(out)
    assert opened.config.num_hidden_layers == 2  # the config is the model's own, not the source's
    assert all(torch.equal(value, opened.state_dict()[name]) for name, value in model.state_dict().items())
    text = ["a lovely film, funny and warm"]
    ids, source_ids = (TextEncoder(path, 32).encode(text).ids[0].tolist() for path in (out, tiny_student))
    assert ids == source_ids


def test_further_files_belong_to_the_bundle(tiny_student: Path, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    source = Source(str(tiny_student), tmp_path)
    more: Callable[[Path], object] = lambda folder: (folder / "notes.txt").write_text("more")  # noqa: E731
    bundle = write_model(str(tmp_path / "out"), manifest(), tiny_bert(), source, more)
    assert "notes.txt" in bundle.manifest["files"]


def test_a_failure_leaves_the_earlier_bundle(tiny_student: Path, tiny_bert: Callable[..., Any], tmp_path: Path) -> None:
    source = Source(str(tiny_student), tmp_path / "work")
    earlier = write_model(str(tmp_path / "out"), manifest(), tiny_bert(seed=1), source).digest

    def fail(folder: Path) -> None:
        assert (folder / "model.safetensors").is_file()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_model(str(tmp_path / "out"), manifest(), tiny_bert(seed=2), source, fail)
    assert open_bundle(tmp_path / "out").digest == earlier
    assert {path.name for path in tmp_path.iterdir()} == {"out", "work"}
