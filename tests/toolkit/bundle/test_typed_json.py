"""A configuration that makes no sense is refused with its field, whatever stands in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.bundle.typed_json import read_config
from toolkit.errors import ToolkitError


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"pad_token_id": 1e400}', "pad_token_id: Input should be a valid integer"),
        ('{"pad_token_id": true}', "pad_token_id"), ('{"pad_token_id": -1}', "pad_token_id"),
        ('{"vocab_size": "many"}', "vocab_size"), ('{"hidden_size": 0}', "hidden_size"),
        ('{"num_hidden_layers": 1e9}', "num_hidden_layers"), ('{"id2label": {"0": 1}}', "id2label.0"),
        ('{"model_type": ["bert"]}', "model_type"), ("[]", "all of it: Input should be a valid dictionary"),
        ("[" * 100_000, "recursion"), ("{", "Expecting"), ("", "Expecting"), ("\xff", "codec can't decode"),
        (f'{{"vocab_size": {"9" * 5000}}}', "Exceeds the limit"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ToolkitError, match=r"config\.json is not a model's configuration") as caught:
        read_config(tmp_path / "config.json")
    assert problem in str(caught.value)


def test_other_entries_of_a_configuration_stay(tmp_path: Path) -> None:
    config = {"model_type": "bert", "pad_token_id": None, "id2label": {"0": "a"}, "own": [1, {"x": None}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path / "config.json") == config
    with pytest.raises(ToolkitError, match="is not a model's configuration"):
        read_config(tmp_path / "none.json")
