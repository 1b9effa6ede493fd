"""The bundle format as a specification and a JSON Schema, from the types that the toolkit itself checks bundles by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from pydantic import TypeAdapter

from toolkit.bundle import manifest
from toolkit.bundle.baseline import Baseline
from toolkit.bundle.calibration import Calibration
from toolkit.bundle.manifest import BASELINE, CALIBRATION, MANIFEST, SEALED, Manifest

ROOT = Path(__file__).parent.parent
MODULES = (
    "toolkit.bundle.manifest", "toolkit.bundle.calibration", "toolkit.bundle.baseline", "toolkit.tasks", "toolkit.files"
)  # fmt: skip
LARGE = 2**31 - 1  # a bound that only keeps numbers of others finite
FILES = {Manifest: MANIFEST, Calibration: CALIBRATION, Baseline: BASELINE}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}

INTRODUCTION = f"""# Bundle format

A bundle is a directory. `{MANIFEST}` names what it is and lists every other file with its size and SHA-256;
Hugging Face's classes open the rest. This is version {manifest.FORMAT_VERSION} (`format_version`). A newer
toolkit opens older bundles; an older one refuses newer bundles.

[bundle.schema.json](../bundle.schema.json), [calibration.schema.json](../calibration.schema.json) and
[baseline.schema.json](../baseline.schema.json) are JSON Schemas (draft 2020-12) of the three files below, made like
this page from the types that the toolkit checks bundles by.

## Files

| file | what it holds |
|---|---|
| `{MANIFEST}` | the manifest, below; at most {manifest.MAX_MANIFEST_BYTES:,} bytes |
| `{manifest.CONFIG}` | the model's configuration, as Hugging Face's `save_pretrained` writes it |
| `{manifest.TOKENIZER}` | Hugging Face's tokenizer; at most {manifest.MAX_TOKENIZER_BYTES:,} bytes |
| {" or ".join(f"`{name}`" for name in manifest.WEIGHTS)} | the weights; in `1/` where Triton reads the bundle |
| `{CALIBRATION}` | the temperature of the scores, below; optional |
| `{BASELINE}` | what the model answers to dev rows, below, for `toolkit serve` to see drift by; optional |
| `{manifest.CARD}` | the card, for people and the Hugging Face hub; bundles of older toolkits have none |
| `{manifest.SIGNATURE}` | a signature of all other files, by `toolkit sign`; optional |

## Rules

- `{MANIFEST}` is canonical JSON: UTF-8, keys sorted, two spaces of indentation. Another spelling is refused.
- `digest` is the SHA-256 of the manifest in that form without the entry `digest`.
- `files` lists every file but `{MANIFEST}` and `{manifest.SIGNATURE}`. A file that is missing, changed, or not listed
  makes the bundle damaged.
- Paths are relative, with `/`, and stay inside the directory. Files are regular files; links out of it are refused.
- All files together have at most {manifest.MAX_BUNDLE_BYTES:,} bytes.
- Objects and lists are nested at most {manifest.MAX_DEPTH} deep.
"""


def schema(shape: Any) -> dict[str, Any]:
    """Return the JSON Schema of a shape in FILES, with a description of every entry."""
    made = TypeAdapter(shape).json_schema()
    documented = _descriptions()
    for name, part in [(made["title"], made), *made.get("$defs", {}).items()]:
        for entry, content in part.get("properties", {}).items():
            content["description"] = documented[name][entry]
    if shape is Manifest:
        made["required"] = sorted({*made["required"], *SEALED})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def format_page() -> str:
    """Write the specification in Markdown, a table for each object."""
    lines = [INTRODUCTION]
    for shape, file in FILES.items():
        made = schema(shape)
        lines += _object(file, made)
        for name, part in made.get("$defs", {}).items():
            lines += _object(name, part)
    return "\n".join(lines)


def schema_files() -> Mapping[str, str]:
    """Return the text of each schema file, by its name."""
    return {
        file.replace(".json", ".schema.json"): json.dumps(schema(shape), indent=2) + "\n"
        for shape, file in FILES.items()
    }


def _object(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    """Give the section of one object."""
    yield from (f"## {name}", "", str(part.get("description", "")).strip(), "")
    yield from ("| entry | type | | meaning |", "|---|---|---|---|")
    for entry, content in part["properties"].items():
        needed = "required" if entry in part.get("required", ()) else ""
        yield f"| `{entry}` | {_type(content)} | {needed} | {content['description']} |"
    yield ""


def _type(content: Mapping[str, Any]) -> str:
    """Say a schema's type in words, with its bounds."""
    if "$ref" in content:
        name = content["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in content:
        return " or ".join(map(_type, content["anyOf"]))
    if "enum" in content:
        return " or ".join(f"`{value}`" for value in content["enum"])
    if content.get("type") == "array":
        items = content.get("items") or {}
        most = f", at most {content['maxItems']}" if "maxItems" in content else ""
        return (f"list of {_plural(items)}" if items else "list") + most
    if content.get("type") == "object":
        values = content.get("additionalProperties")
        return f"object of {_plural(values)}" if isinstance(values, dict) and values else "object"
    bounds = [f"{word} {content[key]:,}" for key, word in BOUNDS.items() if content.get(key, LARGE) < LARGE]
    pattern = f" `{content['pattern']}`".replace("|", "\\|") if "pattern" in content else ""
    return " ".join([WORDS[content["type"]], *bounds]) + pattern


def _plural(content: Mapping[str, Any]) -> str:
    return _type(content) + ("s" if content.get("type") in ("integer", "number", "string", "object") else "")


@cache
def _descriptions() -> dict[str, dict[str, str]]:
    """Return the docstring of every entry of every type, those of its base types included."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    loader.load("toolkit")
    classes = [kind for module in MODULES for kind in loader.modules_collection[module].classes.values()]
    return {
        kind.name: {
            name: " ".join(entry.docstring.value.split())
            for name, entry in kind.all_members.items() if entry.is_attribute and entry.docstring
        }
        for kind in classes if not kind.is_alias
    }  # fmt: skip
