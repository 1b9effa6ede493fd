"""General distillation: a student that learns its teacher's layers and that the task stage goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from tests.support.data import BAD, FILLER, GOOD, rows
from tests.support.models import word_pieces
from toolkit.bundle.format import open_bundle
from toolkit.config import DistillConfig, EvaluateConfig, FinetuneConfig
from toolkit.distillation.distill import run_distill
from toolkit.distillation.general import run_general
from toolkit.errors import ToolkitError
from toolkit.inference.evaluate import run_evaluate
from toolkit.training.finetune import run_finetune


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Any, save_model: Callable[..., Path]) -> Path:
    return save_model(tiny_bert(), tmp_path_factory.mktemp("encoder") / "plain")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("".join(f"{sentence}\n" for sentence, _ in rows(200, seed=5)))
    return path


def distill_general(encoder: Path, text: Path, out: Path, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "student": "2/16/32/4", "intermediate_epochs": 3, "intermediate_lr": 5e-3, "max_length": 32, "batch_size": 8,
        "accumulation": 2,
    }  # fmt: skip
    settings |= {"corpus": (str(text),), **changes}
    run_general(DistillConfig(str(encoder), None, str(out), general=True, **settings))
    return open_bundle(out).manifest


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, encoder: Path, text: Path) -> Path:
    out = tmp_path_factory.mktemp("general") / "student"
    distill_general(encoder, text, out)
    return out


def test_a_general_student_learns_its_teachers_layers(student: Path, encoder: Path) -> None:
    bundle = open_bundle(student)
    history = bundle.manifest["stages"]["general"]["history"]
    assert set(history[0]) == {"step", "attention", "hidden", "embedding"}
    assert bundle.kind == "general"
    assert bundle.manifest["config"]["loss"] == "attention=1,hidden=1,embedding=1,relations=0,prediction=0,label=0"
    projections = load_file(student / "projections.safetensors")
    assert {name: tuple(value.shape) for name, value in projections.items()} == {
        f"maps.{level}.{part}": shape for level in range(3) for part, shape in (("weight", (24, 16)), ("bias", (24,)))
    }
    teacher, ours = AutoModel.from_pretrained(encoder).eval(), AutoModel.from_pretrained(student).eval()
    batch = torch.randint(57, teacher.config.vocab_size, (8, 20))  # whole words
    with torch.no_grad():
        expected, student_states = teacher(batch).last_hidden_state, ours(batch).last_hidden_state
    projected = student_states @ projections["maps.2.weight"].T + projections["maps.2.bias"]
    assert (projected - expected).square().mean() < 0.5 * expected.var()
    with pytest.raises(ToolkitError, match="has not learnt a task yet") as caught:
        run_evaluate(EvaluateConfig(str(student)))
    assert f"--init {student}" in caught.value.fix


def test_the_task_stage_goes_on_from_it(
    student: Path, encoder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"data": str(data_dir)}
    # few steps, so that the teacher's layers are near those that the general student learnt from
    run_finetune(FinetuneConfig(str(encoder), "auto", str(tmp_path / "teacher"), epochs=2, lr=5e-3, **common))

    def first_losses(init: str) -> dict[str, float]:
        out = tmp_path / init.rpartition("/")[2]
        settings: dict[str, Any] = {
            "student": "2/16/32/4", "intermediate_lr": 1e-9, "intermediate_epochs": 2, "allow_weak_teacher": True,
        }  # fmt: skip
        run_distill(DistillConfig(
            str(tmp_path / "teacher"), "auto", str(out), init=init, prediction_epochs=0, **settings, **common
        ))  # fmt: skip
        history = open_bundle(out).manifest["stages"]["intermediate"]["history"]
        return {name: value for name, value in history[0].items() if name != "step"}

    ours, random = first_losses(str(student)), first_losses("random")
    assert all(ours[name] < 0.9 * random[name] for name in ours)  # the hidden losses need the projections too
    assert "drawn new" not in capsys.readouterr().out


def test_projections_for_another_width_are_drawn_new(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wide = save_model(tiny_bert(hidden_size=32), tmp_path / "wide")
    run_distill(DistillConfig(
        str(wide), "auto", str(tmp_path / "s"), data=str(data_dir), init=str(student), student="2/16/32/4",
        intermediate_epochs=1, prediction_epochs=0, allow_weak_teacher=True,
    ))  # fmt: skip
    assert "the projections are drawn new" in capsys.readouterr().out


def test_a_student_of_another_vocabulary_cannot_learn_from_layers(
    student: Path, tiny_bert: Any, save_model: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    """As many pieces, but others: every shape fits, and every embedding would stand for another word."""
    from transformers import PreTrainedTokenizerFast

    other = save_model(tiny_bert(), tmp_path / "other")
    mixed = word_pieces([word[::-1] for word in (*BAD, *FILLER, *GOOD)])
    PreTrainedTokenizerFast(
        tokenizer_object=mixed, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(other)  # fmt: skip
    with pytest.raises(ToolkitError, match=r"the student reads the word pieces of .* cannot be"):
        run_distill(DistillConfig(
            str(other), "auto", str(tmp_path / "s"), data=str(data_dir), init=str(student), student="2/16/32/4",
            allow_weak_teacher=True, objective="relations",
        ))  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_relations_teach_a_student_with_other_heads(encoder: Path, text: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"student": "2/24/32/3", "init": "random", "intermediate_epochs": 8}
    manifest = distill_general(encoder, text, tmp_path / "s", objective="relations", **settings)
    history = manifest["stages"]["general"]["history"]
    assert set(history[0]) == {"step", "relations"}
    assert history[-1]["relations"] < 0.7 * history[0]["relations"]
    with pytest.raises(ToolkitError, match="--relation-heads 7 does not divide both widths, 24 of the student"):
        distill_general(encoder, text, tmp_path / "t", objective="relations", relation_heads=7, **settings)
    with pytest.raises(ToolkitError, match="the teacher has 4 attention heads, the student 3") as caught:
        distill_general(encoder, text, tmp_path / "t", **settings)
    assert "--objective relations" in caught.value.fix


def test_a_larger_encoder_to_start_from_is_refused(encoder: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="which is no student of 2/16/32/4: it learns one model's layers") as caught:
        distill_general(encoder, text, tmp_path / "s", init=str(encoder))
    assert caught.value.fix == f"--teacher {encoder} without --init"


def test_the_last_checkpoint_is_gone_on_from(
    encoder: Path, text: Path, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training.trainer import StageTrainer

    step, calls = StageTrainer.step, []

    def stop(self: StageTrainer, parts: Any) -> Any:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return step(self, parts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StageTrainer, "step", stop)
        distill_general(encoder, text, tmp_path / "s", checkpoint_every=5)
    assert (tmp_path / "s.partial").is_dir()
    distill_general(encoder, text, tmp_path / "s", checkpoint_every=5)
    whole, resumed = (open_bundle(path).manifest["files"] for path in (student, tmp_path / "s"))
    for name in ("model.safetensors", "projections.safetensors"):
        assert whole[name] == resumed[name]
