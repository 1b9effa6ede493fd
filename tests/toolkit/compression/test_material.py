"""What a search knows of a teacher and its data beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_line import refused, toolkit
from toolkit.compression.material import Material, open_material
from toolkit.config import CompressConfig
from toolkit.models.student import Shape

MINILM = Material(Shape(6, 384, 1536, 12), {}, np.array([10, 20]), 1e-6)


def test_a_teacher_and_its_data_are_read(tiny_teacher: Path, data_dir: Path, tmp_path: Path) -> None:
    (text := tmp_path / "more.txt").write_text("a good film\n")
    config = CompressConfig(
        str(tiny_teacher), "auto", "out", data=str(data_dir), max_size_mb=1.0, trim_vocabulary=(str(text),)
    )
    material = open_material(config, tmp_path)
    assert material.teacher == Shape(3, 24, 48, 4)
    assert len(material.lengths) == 320 - 64, "a fifth of train chooses the step"
    assert material.config["id2label"] == {0: "negative", 1: "positive"}
    assert material.references == []
    assert material.seconds_per_weight > 0
    assert material.vocabulary is not None
    assert material.vocabulary.needed == material.config["vocab_size"], "the train rows hold every piece"


def test_the_papers_shapes_are_tried_where_they_fit() -> None:
    assert MINILM.references == [Shape(4, 312, 1200, 12)]
    assert replace(MINILM, teacher=Shape(12, 768, 3072, 12)).references == [
        Shape(4, 312, 1200, 12), Shape(6, 768, 3072, 12)
    ]  # fmt: skip
    assert replace(MINILM, teacher=Shape(12, 768, 3072, 8)).references == [], "other heads"


def test_the_time_of_a_training() -> None:
    # 30 tokens; a teacher of 6 x 1,769,472 weights, a student of 11,264 three times over
    shape, teacher = Shape(1, 32, 112, 12), 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    own = 3 * (4 * 32 * 32 + 2 * 32 * 112)
    assert MINILM.training_seconds(shape, (2, 1)) == pytest.approx(30e-6 * (2 * (teacher + own) + own))
    assert MINILM.training_seconds(shape, (0, 0)) == 0


def test_a_teacher_by_answers_only_is_refused(
    data_dir: Path, tmp_path: Path, save_model: object, tokenizer: object
) -> None:
    from transformers import RoFormerConfig, RoFormerForSequenceClassification

    config = RoFormerConfig(
        vocab_size=tokenizer.get_vocab_size(), embedding_size=16, hidden_size=24, num_hidden_layers=2,  # type: ignore[attr-defined]
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=64,
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1},
    )  # fmt: skip
    folder = save_model(RoFormerForSequenceClassification(config), tmp_path / "roformer")  # type: ignore[operator]
    message = refused(
        toolkit("compress", folder, "--task", "auto", "--data", data_dir, "--max-size-mb", "1", "--out", tmp_path / "o")
    )
    assert "RoFormer teaches by its answers only" in message
    assert not (tmp_path / "o").exists()
