"""The bill of materials fits CycloneDX's schema and names every file, model, split and package with its digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from toolkit.bundle.bom import bom_json
from toolkit.bundle.format import Bundle, open_bundle


def valid(text: str) -> Any:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None, problem
    return json.loads(text)


def by_type(bill: Any, kind: str) -> dict[str, Any]:
    return {component["name"]: component for component in bill["components"] if component["type"] == kind}


def sha256(component: Any) -> str:
    (entry,) = component["hashes"]
    assert entry["alg"] == "SHA-256"
    return str(entry["content"])


def test_a_trained_bundle(tiny_teacher: Path) -> None:
    bundle = open_bundle(tiny_teacher)
    bill = valid(bom_json(bundle))
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    files = {component["name"]: sha256(component) for component in model["components"]}
    assert files == {name: record["sha256"] for name, record in bundle.manifest["files"].items()}
    assert sha256(model) == files["model.safetensors"]
    data = {name: sha256(component) for name, component in by_type(bill, "data").items()}
    assert data == bundle.manifest["data"]
    assert set(data) == {"train", "selection", "dev"}
    (encoder,) = by_type(bill, "machine-learning-model").values()
    assert sha256(encoder) == bundle.manifest["made_from"]["encoder"]["weights_sha256"]
    packages = {name: component["version"] for name, component in by_type(bill, "library").items()}
    assert packages == bundle.manifest["versions"]
    assert by_type(bill, "library")["torch"]["purl"].startswith("pkg:pypi/torch@")
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert set(needs[model["bom-ref"]]) == {component["bom-ref"] for component in bill["components"]}
    assert str(tiny_teacher.parent) not in json.dumps(bill), "its directories are not told"


def test_a_chain_shares_its_data_and_a_damaged_bill_is_noticed(tiny_onnx: Path) -> None:
    opened = open_bundle(tiny_onnx)
    split, commit = "d" * 64, "c" * 40
    encoder = {"kind": "model", "name": "google/bert", "revision": commit}
    teacher = {"kind": "teacher", "name": "runs/t", "digest": "1" * 64, "data": {"dev": split},
               "made_from": {"encoder": encoder}}  # fmt: skip
    manifest: Any = {
        **opened.manifest, "license": "mit",
        "data": {"dev": split, "sources": [{"path": "a/b.txt", "sha256": "2" * 64}]},
        "made_from": {"student": {"kind": "student", "name": "s", "digest": "3" * 64, "data": {"dev": split},
                                  "made_from": {"teacher": teacher}}},
    }  # fmt: skip
    text = bom_json(Bundle(opened.path, manifest))
    bill = valid(text)
    assert {name: sha256(component) for name, component in by_type(bill, "data").items()} == {
        "dev": split, "b.txt": "2" * 64,
    }  # fmt: skip
    assert by_type(bill, "machine-learning-model")["google/bert"]["version"] == commit
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert needs["teacher:t:" + "1" * 64] == [f"data:dev:{split}", f"model:google/bert:{commit}"]
    assert bill["metadata"]["component"]["licenses"] == [{"license": {"name": "mit"}}]
    assert bill["serialNumber"] == json.loads(bom_json(Bundle(opened.path, manifest)))["serialNumber"]
    broken = text.replace('"SHA-256"', '"SHA-255"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None
