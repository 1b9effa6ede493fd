"""Files of a bundle are verified as they are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toolkit.bundle.contents import read_file, read_weights
from toolkit.bundle.format import open_bundle
from toolkit.errors import ToolkitError


def test_contents_are_those_that_were_verified(tiny_onnx: Path, tmp_path: Path) -> None:
    bundle = open_bundle(shutil.copytree(tiny_onnx, tmp_path / "bundle"))
    for name in ("config.json", "tokenizer.json"):
        assert read_file(bundle, name) == (tiny_onnx / name).read_bytes()
    assert read_weights(bundle) == (tiny_onnx / "model.onnx").read_bytes()


def test_a_file_that_changes_after_the_opening_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    bundle = open_bundle(shutil.copytree(tiny_onnx, tmp_path / "bundle"))
    tokenizer, model = bundle.path / "tokenizer.json", bundle.path / "model.onnx"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"good", b"evil"))
    with pytest.raises(ToolkitError, match=r"tokenizer\.json has changed"):
        read_file(bundle, "tokenizer.json")
    model.unlink()
    with pytest.raises(ToolkitError, match=r"model\.onnx: No such file"):
        read_weights(bundle)
