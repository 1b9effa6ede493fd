"""A model cut to fewer pieces and positions gives the same logits on what is left."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from toolkit.data.tokenization import TextEncoder
from toolkit.data.vocabulary import select_pieces, trim_files
from toolkit.errors import ToolkitError
from toolkit.inference.runtimes import TorchRuntime, load_classifier
from toolkit.models.trimming import trim_model, trim_positions

TEXTS = ["a good film", "the plot was dull"]


def test_positions_that_no_input_reaches_fall_away(tiny_student: Path) -> None:
    whole, cut = load_classifier(tiny_student), load_classifier(tiny_student)
    assert trim_positions(cut, 16) == 16 == cut.config.max_position_embeddings
    batch = TextEncoder(tiny_student, 16).encode([" ".join(["good"] * 40), *TEXTS]).batch(range(3))
    assert batch["input_ids"].shape[1] == 16
    np.testing.assert_array_equal(TorchRuntime(whole).run(batch), TorchRuntime(cut).run(batch))
    cut.config.model_type = "mpnet"  # counts positions from its padding
    assert trim_positions(cut, 8) is None


def test_the_model_gives_the_same_logits_on_what_stays(tiny_student: Path, tmp_path: Path) -> None:
    trimmed = shutil.copytree(tiny_student, tmp_path / "trimmed")
    trim_files(select_pieces(tiny_student, TEXTS), trimmed)
    whole, cut = load_classifier(tiny_student), load_classifier(tiny_student)
    chosen = select_pieces(tiny_student, TEXTS)
    trim_model(chosen, cut)
    assert cut.config.vocab_size == len(chosen.ids) < whole.config.vocab_size == chosen.old_size
    expected, logits = (
        TorchRuntime(model).run(TextEncoder(folder, 32).encode(TEXTS).batch(range(2)))
        for model, folder in ((whole, tiny_student), (cut, trimmed))
    )
    np.testing.assert_array_equal(expected, logits)


def test_padding_behind_other_pieces_is_refused(tiny_student: Path) -> None:
    model = load_classifier(tiny_student)
    model.config.pad_token_id = 60
    with pytest.raises(ToolkitError, match="the padding has id 60"):
        trim_model(select_pieces(tiny_student, ["good"]), model)
