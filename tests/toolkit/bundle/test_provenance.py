"""The origins that a manifest records, and the bundles that a command takes instead of making them again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toolkit.bundle.provenance import origin
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.errors import ToolkitError


def test_a_model_from_the_hub_is_known_by_its_commit() -> None:
    assert origin("bert-base-uncased", "86b5e0934494bd15") == {
        "kind": "model", "name": "bert-base-uncased", "revision": "86b5e0934494bd15",
    }  # fmt: skip


def test_a_damaged_bundle_is_no_origin(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    for use in (origin, inspect_bundle):
        with pytest.raises(ToolkitError, match=r"tokenizer\.json is damaged"):
            use(str(copy))
