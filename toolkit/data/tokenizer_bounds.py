"""Bounds on a tokenizer.json of unknown origin: the growth of a text in it, and the time that its patterns take."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

MAX_GROWTH = 64  # times, by all replacements together; Unicode's own forms make 18 characters of one
MAX_PIECES = 64  # special tokens and repetitions of the text in an input
# patterns of Hugging Face's own tokenizers, which take time in proportion to the text
KNOWN_PATTERNS = {" {2,}", " +", r"\s+", "\n", r"\s", r"[\s]+"}
PROBE_BYTES, PROBE_SECONDS = 2 * 2**30, 10  # of memory and of CPU time for the texts below
PROBE = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({PROBE_BYTES}, {PROBE_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({PROBE_SECONDS}, {PROBE_SECONDS}))
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_buffer(sys.stdin.buffer.read())
tokenizer.no_truncation()
for text in ("a", " ", "1", "-", "aA1 ", "a-", "\\u00e9\\u4e2d ", "".join(map(chr, range(32, 1000)))):
    tokens = len(tokenizer.encode((text * 10_000)[:10_000]).ids)
    assert tokens < 10_000 * {MAX_GROWTH}
"""


def check_tokenizer(content: bytes, path: Path) -> None:
    """Check a tokenizer before it is loaded: its growth by its entries, its own patterns on texts in a process apart.

    Args:
        content: of tokenizer.json.
        path: the file's name, for the error.

    Raises:
        ToolkitError: it makes texts much longer, adds many tokens, or takes too much time or memory.
    """
    patterns: set[str] = set()
    try:
        tokenizer = json.loads(content)
        problem = next(_problems(tokenizer), None)
        patterns.update(_patterns([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
        problem = f"it cannot be read: {error!r}"
    if problem is None and not patterns <= KNOWN_PATTERNS:
        done = subprocess.run([sys.executable, "-c", PROBE], input=content, capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            problem = f"its patterns take more than {PROBE_SECONDS} s or {PROBE_BYTES >> 30} GiB for 10,000 characters"
    if problem:
        raise ToolkitError(f"{path} is not a tokenizer that can be trusted: {problem}")


def _problems(tokenizer: dict[str, Any]) -> Iterator[str]:
    growth = 1
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        if step["type"] == "Replace":
            growth *= max(1, len(step["content"]))
        elif step["type"] == "Prepend":
            growth *= 1 + len(step["prepend"])
        elif step["type"] == "Precompiled" and step.get("precompiled_charsmap"):
            growth *= max(1, _longest_replacement(step["precompiled_charsmap"]) // MAX_GROWTH)
        if growth > MAX_GROWTH:
            yield f"its normalizer makes a text more than {MAX_GROWTH} times longer"
            return
    pieces = 0
    for step in _steps(tokenizer.get("post_processor"), "processors"):
        if step["type"] == "TemplateProcessing":
            pieces += len(step["single"]) + len(step["pair"])
            pieces += sum(len(token["ids"]) for token in step["special_tokens"].values())
    if pieces > MAX_PIECES:
        yield f"its template makes {pieces} pieces of an input"


def _steps(part: dict[str, Any] | None, children: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a part of a tokenizer, those of its sequences one by one."""
    if part is None:
        return
    if part["type"] == "Sequence":
        for child in part[children]:
            yield from _steps(child, children)
    else:
        yield part


def _longest_replacement(charsmap: str) -> int:
    """Return the bytes of the longest text that a SentencePiece character map puts in place of a character."""
    raw = base64.b64decode(charsmap)
    (size,) = struct.unpack_from("<I", raw)  # of the trie; texts that end with a zero follow
    return max(map(len, raw[4 + size :].split(b"\0")))


def _patterns(value: Any) -> Iterator[str]:
    """Yield the regular expressions of a tokenizer."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and isinstance(value.get("Regex"), str):
        yield value["Regex"]
    for child in children:
        if isinstance(child, dict | list):
            yield from _patterns(child)
