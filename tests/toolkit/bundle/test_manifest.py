"""A manifest that makes no sense is refused with its field, whatever stands in it."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from toolkit.bundle import typed_json
from toolkit.bundle.format import open_bundle, write_bundle
from toolkit.bundle.manifest import MANIFEST, MAX_DEPTH, manifest_digest, read_manifest
from toolkit.cli.inspect_bundle import inspect_bundle
from toolkit.console import show_tree
from toolkit.data.tokenization import TextEncoder
from toolkit.errors import ToolkitError
from toolkit.files import canonical_json

METRICS = {"accuracy": 0.5}
ORIGIN = {
    "kind": "student", "name": "student", "digest": "a" * 64, "precision": "fp32", "max_length": 32, "seed": 1,
    "metrics": METRICS, "data": {"train": "b" * 64, "sources": [{"path": "x.txt", "sha256": "c" * 64}]},
    "versions": {"tinybert-toolkit": "0.1.0"},
    "made_from": {"encoder": {"kind": "model", "name": "bert", "weights_sha256": "d" * 64, "revision": "e"}},
}  # fmt: skip
EVERYTHING: dict[str, Any] = {
    "kind": "onnx", "precision": "int8", "max_length": 32, "parent": "f" * 64, "config": {"out": "x", "seed": [1]},
    "task": {"name": "auto", "kind": "classification", "labels": ["no", "yes"], "metrics": ["accuracy"], "pair": False},
    "seed": 3, "metrics": METRICS, "start_metrics": METRICS, "teacher_metrics": METRICS, "layer_map": [1, 2],
    "data": {"dev": "0" * 64}, "made_from": {"student": ORIGIN}, "stages": {"a": {"steps": 1, "history": [{"x": 1.0}]}},
    "graph": {"nodes": 3}, "vocabulary": {"kept": 1}, "tuning": [{"name": "x"}],
    "quantization": {
        "linear": {"layer": {"max_weight": 1, "max_int16": 2}}, "linear_nodes": 1, "embedding_nodes": 1,
        "int16_limit": 32767, "candidate": "x",
    },
    "gates": {
        "rows": 3, "metrics": METRICS, "reference_metrics": METRICS,
        "verdicts": [{"name": "x", "value": 1.0, "bound": 2, "lower": False, "passed": True}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose manifest has every entry."""
    out = tmp_path_factory.mktemp("manifests") / "b"
    with write_bundle(out, copy.deepcopy(EVERYTHING)) as staging:  # type: ignore[arg-type]
        for name in ("model.onnx", "tokenizer.json", "config.json"):
            shutil.copy(tiny_onnx / name, staging)
    return out


def rewrite(bundle: Path, stored: dict[str, Any]) -> None:
    """Write a manifest as a forger would: canonical, with a matching digest."""
    (bundle / MANIFEST).write_bytes(canonical_json({**stored, "digest": manifest_digest(stored)}))


def places(value: Any) -> list[tuple[Any, ...]]:
    """The way to every entry of nested objects and lists."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(key, *rest) for key, child in children for rest in ((), *places(child))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = new


def remove(value: Any, place: tuple[Any, ...]) -> None:
    for key in place[:-1]:
        value = value[key]
    del value[place[-1]]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_any_field_may_hold_anything(bundle: Path, data: st.DataObject) -> None:
    """It is refused in words, or what is shown of it does not fail."""
    stored = entries(bundle)
    changed = copy.deepcopy(stored)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(changed)))
        if data.draw(st.booleans()):
            put(changed, place, data.draw(ANYTHING))
        else:
            remove(changed, place)
    rewrite(bundle, changed)
    try:
        with contextlib.suppress(ToolkitError):
            opened = open_bundle(bundle)
            TextEncoder(opened.path, opened.max_length)
            assert opened.task.labels
            show_tree(inspect_bundle(bundle))
    finally:
        rewrite(bundle, stored)


def entries(bundle: Path) -> dict[str, Any]:
    return {key: value for key, value in read_manifest(bundle).items() if key != "digest"}


def test_every_entry_is_read_and_shown(bundle: Path) -> None:
    """The control: unchanged, the manifest above is accepted."""
    assert {key for key in read_manifest(bundle) if key in EVERYTHING} == EVERYTHING.keys()
    console = Console(width=500)
    with console.capture() as shown:
        console.print(inspect_bundle(bundle))
    assert "largest sum that AVX2 can meet is 2 of 32,767: nothing saturates" in shown.get()


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("format_version",), "1", "format_version: Input should be a valid integer"),
        (("format_version",), True, "format_version: Input should be a valid integer"),
        (("format_version",), 0, "format_version: Input should be greater than or equal to 1"),
        (("precision",), "int4", "precision: String should match pattern"),
        (("kind",), "weird", "kind: Input should be 'teacher'"),
        (("kind",), "general", "kind general with a task"),
        (("task",), None, "kind onnx without a task"),
        (("max_length",), -1, "max_length: Input should be greater than or equal to 4"),
        (("max_length",), 10**9, "max_length: Input should be less than or equal to 8192"),
        (("max_length",), 32.0, "max_length: Input should be a valid integer"),
        (("max_length",), "32", "max_length: Input should be a valid integer"),
        (("task", "labels"), [], "task: no labels"),
        (("task", "labels"), ["a", "a"], "a label twice"),
        (("task", "labels"), ["a", 1], "task.labels.1: Input should be a valid string"),
        (("task", "kind"), "regression", "a regression has one label"),
        (("task", "metrics"), [], "no metrics"),
        (("files",), [], "files: Input should be a valid dictionary"),
        (("files", "a\0b"), {"size_bytes": 1, "sha256": ""}, r"'a\x00b' is no file's path"),
        (("files", "../up"), {"size_bytes": 1, "sha256": ""}, "'../up' is no file's path"),
        (("files", "/etc/passwd"), {"size_bytes": 1, "sha256": ""}, "'/etc/passwd' is no file's path"),
        (("files", "x" * 5000), {"size_bytes": 1, "sha256": ""}, "is missing"),
        (("files", "config.json", "size_bytes"), 1e300, "files.config.json.size_bytes"),
        (("made_from", "student"), "x", "made_from.student: Input should be a valid dictionary"),
        (("versions",), None, "versions: Input should be a valid dictionary"),
        (("gates", "rows"), "many", "gates.rows"),
        (("quantization", "linear", "layer"), 3, "quantization.linear.layer"),
    ],
)
def test_nonsense_is_refused_with_its_field(bundle: Path, place: tuple[str, ...], value: Any, problem: str) -> None:
    stored = entries(bundle)
    changed = copy.deepcopy(stored)
    put(changed, place, value)
    rewrite(bundle, changed)
    try:
        with pytest.raises(ToolkitError) as caught:
            open_bundle(bundle)
        assert problem in str(caught.value)
    finally:
        rewrite(bundle, stored)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"x": inner}
    return inner


def test_nesting_and_size_in_memory_are_bounded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, raw = entries(bundle), (bundle / MANIFEST).read_bytes()
    try:
        rewrite(bundle, {**stored, "config": nested(MAX_DEPTH - 3)})
        assert open_bundle(bundle).manifest["config"] == nested(MAX_DEPTH - 3)
        rewrite(bundle, {**stored, "config": nested(MAX_DEPTH + 1)})
        with pytest.raises(ToolkitError, match="more than 64 levels"):
            open_bundle(bundle)
        for deep in (b"[" * 100_000, b'{"a":' * 100_000, raw.replace(b"{", b'{"a":' + b"[" * 99_999, 1)):
            (bundle / MANIFEST).write_bytes(deep)
            with pytest.raises(ToolkitError, match="is damaged"):
                open_bundle(bundle)
        (bundle / MANIFEST).write_bytes(raw)
        monkeypatch.setattr(typed_json, "MAX_ENTRIES", 10)
        with pytest.raises(ToolkitError, match="is damaged"):
            open_bundle(bundle)
    finally:
        (bundle / MANIFEST).write_bytes(raw)


def test_a_million_wrong_entries_give_one_problem(bundle: Path) -> None:
    stored = entries(bundle)
    try:
        rewrite(bundle, {**stored, "metrics": {str(i): "x" for i in range(100_000)}})
        with pytest.raises(ToolkitError, match=r"metrics\.0: Input should be a valid number") as caught:
            read_manifest(bundle)
        assert len(str(caught.value)) < 1000
    finally:
        rewrite(bundle, stored)


HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202eevil\rfake"


@pytest.mark.parametrize("place", [("task", "labels", 0), ("made_from", "student", "name"), ("versions", "onnx")])
def test_what_is_shown_is_escaped(
    bundle: Path, place: tuple[Any, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = entries(bundle)
    changed = copy.deepcopy(stored)
    put(changed, place, HOSTILE)
    rewrite(bundle, changed)
    try:
        monkeypatch.setattr("toolkit.console.console", Console(width=500))
        show_tree(inspect_bundle(bundle))
        shown = capsys.readouterr().out
        assert r"\x1b[2J\x1b]0;owned\x07\u202eevil\rfake" in shown
        assert not [char for char in shown if not char.isprintable() and char != "\n"]
    finally:
        rewrite(bundle, stored)


@pytest.mark.parametrize("change", [lambda raw: raw.replace(b'"kind"', b'"\\u006bind"'), lambda raw: raw + b" "])
def test_another_spelling_of_the_same_is_damage(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    raw = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(change(raw))
    try:
        with pytest.raises(ToolkitError, match="it is not as it was written"):
            read_manifest(bundle)
    finally:
        (bundle / MANIFEST).write_bytes(raw)
