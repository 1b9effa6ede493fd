"""The specification and the schemas of the bundle format agree with real bundles and with the toolkit's own checks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.toolkit.bundle.test_manifest import EVERYTHING
from toolkit.bundle.manifest import Manifest
from website.bundle_format import FILES, format_page, schema, schema_files

VALIDATOR = Draft202012Validator(schema(Manifest))
SEALED = {"format_version": 1, "versions": {}, "files": {}, "digest": "0" * 64}


def test_the_schemas_are_schemas() -> None:
    for text in schema_files().values():
        Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("name", ["tiny_teacher", "tiny_student", "tiny_onnx", "overconfident", "watched"])
def test_real_bundles_fit_the_schema(name: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    for shape, file in FILES.items():
        if (bundle / file).exists():
            Draft202012Validator(schema(shape)).validate(json.loads((bundle / file).read_text(encoding="utf-8")))


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda entries: entries.pop(name)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda entries: entries.update(kind="nurse"), ["kind"]),
        (lambda entries: entries.update(max_length=3), ["max_length"]),
        (lambda entries: entries.update(precision="int4"), ["precision"]),
        (lambda entries: entries["task"].update(labels="no"), ["task"]),
        (lambda entries: entries["gates"]["verdicts"][0].pop("bound"), ["gates", "verdicts", 0]),
        (lambda entries: entries["made_from"]["student"].update(seed="x"), ["made_from", "student", "seed"]),
        (without("digest"), []), (without("seed"), []),
    ],
)  # fmt: skip
def test_what_the_toolkit_refuses_does_not_fit(change: Callable[[dict[str, Any]], object], place: list[Any]) -> None:
    entries = copy.deepcopy(EVERYTHING) | SEALED
    VALIDATOR.validate(entries)
    change(entries)
    (error, *others) = VALIDATOR.iter_errors(entries)
    assert (list(error.absolute_path)[: len(place)], others) == (place, [])


@pytest.mark.parametrize(("shape", "file"), FILES.items())
def test_every_entry_is_described_on_the_page(shape: Any, file: str) -> None:
    sections = dict(part.split("\n", 1) for part in format_page().split("\n## ")[1:])
    made = schema(shape)
    for name, part in [(file, made), *made["$defs"].items()]:
        rows = [line.split(" | ") for line in sections[name].splitlines() if line.startswith("| `")]
        assert [row[0].strip("| `") for row in rows] == list(part["properties"])
        for row, (entry, content) in zip(rows, part["properties"].items(), strict=True):
            assert (row[2] == "required") == (entry in part.get("required", ()))
            assert row[3] == content["description"] + " |"
            assert content["description"].endswith(".")


def test_types_and_bounds_are_said_in_words() -> None:
    lines = format_page().splitlines()
    for row in (
        "| `max_length` | whole number from 4 to 8,192 | required |", "| `rows` | whole number from 0 | required |",
        "| `task` | [TaskRecord](#taskrecord) or null | required |", "| `metrics` | object of numbers | required |",
        "| `verdicts` | list of [GateVerdict](#gateverdict) | required |",
        "| `share` | number above 0 below 1 | required |",
    ):  # fmt: skip
        assert any(line.startswith(row) for line in lines), row
