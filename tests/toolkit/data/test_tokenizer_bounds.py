"""A tokenizer that grows its input, or whose patterns never end, is refused before it tokenizes anything."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from toolkit.data import tokenizer_bounds as module
from toolkit.data.tokenizer_bounds import check_tokenizer
from toolkit.errors import ToolkitError

PATH = Path("tokenizer.json")


def stored(tokenizer: Tokenizer, **parts: Any) -> bytes:
    """A tokenizer's file with other parts."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    for name, part in parts.items():
        setattr(copy, name, part)
    return copy.to_str().encode()


def refused(content: bytes, problem: str) -> None:
    with pytest.raises(ToolkitError, match=problem):
        check_tokenizer(content, PATH)


def test_usual_tokenizers_pass_without_a_process(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "run", None)
    check_tokenizer(stored(tokenizer), PATH)
    steps = [
        normalizers.NFKC(),
        normalizers.Replace("``", '"'),
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Prepend("_"),
    ]
    check_tokenizer(stored(tokenizer, normalizer=normalizers.Sequence(steps)), PATH)
    check_tokenizer(stored(tokenizer, pre_tokenizer=pre_tokenizers.ByteLevel()), PATH)


def test_replacements_that_grow_a_text_are_refused(tokenizer: Tokenizer) -> None:
    grows = "its normalizer makes a text more than 64 times longer"
    refused(stored(tokenizer, normalizer=normalizers.Replace("a", "b" * 65)), grows)
    doubling = normalizers.Sequence([normalizers.Replace("a", "aa")] * 7)
    refused(stored(tokenizer, normalizer=doubling), grows)
    nested = normalizers.Sequence([normalizers.Sequence([normalizers.Prepend("x" * 99)])])
    refused(stored(tokenizer, normalizer=nested), grows)
    check_tokenizer(stored(tokenizer, normalizer=normalizers.Sequence([normalizers.Replace("a", "aa")] * 6)), PATH)


def test_a_character_map_that_grows_a_text_is_refused(tokenizer: Tokenizer) -> None:
    for longest, passes in ((33, True), (5000, False)):
        raw = struct.pack("<I", 4) + bytes(4) + b"short\0" + b"x" * longest + b"\0"
        content = json.loads(stored(tokenizer))
        content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw).decode()}
        if passes:
            check_tokenizer(json.dumps(content).encode(), PATH)
        else:
            refused(json.dumps(content).encode(), "its normalizer makes a text")


def test_a_template_that_repeats_the_text_is_refused(tokenizer: Tokenizer) -> None:
    template = processors.TemplateProcessing(single=" ".join(["$A"] * 65), pair="$A $B", special_tokens=[])
    refused(stored(tokenizer, post_processor=template), "its template makes 67 pieces of an input")


def test_patterns_of_its_own_are_tried_in_a_process_with_limits(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_tokenizer(stored(tokenizer, pre_tokenizer=pre_tokenizers.Split(Regex(r"\d+|\p{L}+"), "isolated")), PATH)
    monkeypatch.setattr(module, "PROBE", module.PROBE.replace("RLIMIT_CPU, (10, 10)", "RLIMIT_CPU, (1, 1)"))
    endless = pre_tokenizers.Split(Regex(r"(a|aa)+[^a]"), "isolated")
    refused(stored(tokenizer, pre_tokenizer=endless), "its patterns take more than 10 s or 2 GiB")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 100_000, b'{"normalizer": 3}', b'{"normalizer": {"type": "Replace"}}']
)
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    refused(content, "it cannot be read")
