"""Where a bundle comes from, and what is in it: `toolkit inspect`.

A bundle's manifest holds in `made_from`, by role, what it was made from, compactly and to the root: an int8 export its
student, that its teacher (and the student it started from), that its encoder; each with its digest and the digests of
its data. So the chain can be read when nothing but the last bundle is at hand.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.tree import Tree

from toolkit.bundle.format import Bundle, open_bundle
from toolkit.bundle.weights import operators, read_graph
from toolkit.config import Config, DistillConfig, ExportConfig, FinetuneConfig

SHOWN_DIGITS = 12  # of a digest
CONFIGS: dict[str, type[Config]] = {
    "teacher": FinetuneConfig, "student": DistillConfig, "general": DistillConfig, "onnx": ExportConfig,
}  # fmt: skip
# by words in a tensor's name or in that of the node that reads it; the first that fits
GROUPS = {
    "embeddings": ("embed",),
    "attention": ("attention",),
    "pooler and head": ("pooler", "classifier"),
    "feed-forward and layer norms": ("layer", "intermediate", "ffn", "dense", "lin1", "lin2"),
}
REST = "constants"


@dataclasses.dataclass
class Group:
    """Tensors of one part of a model: how many bytes they take and how many numbers they hold."""

    size_bytes: int = 0
    numbers: int = 0


def tensor_groups(path: Path) -> dict[str, Group]:
    """Sizes by part of the model, from a safetensors header or from an ONNX graph's constants."""
    groups = {name: Group() for name in (*GROUPS, REST)}
    for name, size_bytes, numbers in _onnx_tensors(path) if path.suffix == ".onnx" else _safetensors(path):
        groups[name].size_bytes += size_bytes
        groups[name].numbers += numbers
    return {name: group for name, group in groups.items() if group.numbers}


def inspect_bundle(path: str | Path) -> Tree:
    """All that a bundle can tell, as a tree to print.

    Raises:
        ToolkitError: no bundle, or a damaged one.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    head = f"{bundle.path}: {bundle.kind}, {bundle.precision}, {_megabytes(bundle.weight_bytes)}, {bundle.digest}"
    tree = Tree(head, highlight=False)
    tree.add(f"task: {_task(bundle)}, texts up to {bundle.max_length} tokens")
    _add_metrics(tree, manifest)
    _add_gates(tree, manifest.get("gates") or {})
    _add_origins(tree.add("made from"), manifest)
    _add_weights(tree, bundle)
    options = ", ".join(non_default_options(bundle.kind, manifest.get("config") or {}))
    tree.add(f"options other than the defaults: {options or 'none'}")
    files = tree.add(f"files: {len(manifest['files'])}, as {bundle.path / 'bundle.json'} lists them")
    for name, entry in manifest["files"].items():
        files.add(f"{name}: {entry['size_bytes']:,} bytes, SHA-256 {entry['sha256'][:SHOWN_DIGITS]}")
    tree.add(f"made with: {_pairs(manifest['versions'])}")
    return tree


def _add_metrics(tree: Tree, manifest: dict[str, Any]) -> None:
    for key, name in (
        ("metrics", "dev"),
        ("start_metrics", "dev, before training"),
        ("teacher_metrics", "its teacher"),
    ):
        if manifest.get(key):
            tree.add(f"{name}: {_percentages(manifest[key])}")


def _add_gates(tree: Tree, gates: dict[str, Any]) -> None:
    if not gates:
        return
    branch = tree.add(f"gates, against PyTorch on {gates['rows']:,} dev rows")
    for one in gates["verdicts"]:
        bound = f"{'at least' if one['lower'] else 'at most'} {one['bound']:g}"
        branch.add(f"{one['name']}: {one['value']:.4g}, {bound}: {'held' if one['passed'] else 'MISSED'}")


def _add_origins(branch: Tree, manifest: dict[str, Any]) -> None:
    """The data of a bundle and what it was made from, each origin with its own below it."""
    for name, found in (manifest.get("data") or {}).items():
        for one in found if isinstance(found, list) else [found]:
            branch.add(f"data, {name}: {_datum(one)}")
    for role, one in (manifest.get("made_from") or {}).items():
        told = [
            one.get("precision"),
            _percentages(one.get("metrics") or {}),
            f"seed {one['seed']}" if "seed" in one else "",
        ]
        digest = (one.get("digest") or one.get("weights_sha256") or one.get("revision") or "no digest")[:SHOWN_DIGITS]
        made_with = f"toolkit {one['versions']['tinybert-toolkit']}" if one.get("versions") else ""
        facts = ", ".join(str(fact) for fact in (digest, *told, made_with) if fact)
        _add_origins(branch.add(f"{role} {one['name']} ({one['kind']}): {facts}"), one)
    if "made_from" not in manifest and manifest.get("parent"):
        branch.add(f"{manifest['parent'][:SHOWN_DIGITS]}, by a toolkit that kept no more of it")


def _add_weights(tree: Tree, bundle: Bundle) -> None:
    try:
        groups = tensor_groups(bundle.weights)
    except ImportError:
        tree.add("tensors and operators: pip install 'tinybert-toolkit[export]' to read the graph")
        return
    total = sum(group.size_bytes for group in groups.values())
    branch = tree.add(f"tensors: {_megabytes(total)}, {sum(group.numbers for group in groups.values()):,} numbers")
    for name, group in groups.items():
        share = f"{100 * group.size_bytes / total:.0f} %"
        branch.add(f"{name}: {_megabytes(group.size_bytes)} ({share}), {group.numbers:,} numbers")
    if bundle.weights.suffix != ".onnx":
        return
    counted = operators(bundle.weights)
    tree.add(f"operators: {counted.total()}").add(_pairs(dict(counted.most_common())))
    if record := bundle.manifest.get("quantization"):
        worst = max(layer["max_int16"] for layer in record["linear"].values())
        tree.add(
            f"int8: {record['linear_nodes']} linear layers, {record['embedding_nodes']} embedding tables; the largest "
            f"sum that AVX2 can meet is {worst:,} of {record['int16_limit']:,}: nothing saturates"
        )


def non_default_options(kind: str, config: dict[str, Any]) -> Iterator[str]:
    """Options that were given or worked out, those with their default left out."""
    fields = {field.name: field.default for field in dataclasses.fields(CONFIGS[kind])} if kind in CONFIGS else {}  # type: ignore[arg-type]
    for name, value in config.items():
        default = fields.get(name, dataclasses.MISSING)
        if value != (list(default) if isinstance(default, tuple) else default):  # JSON has no tuples
            yield f"{name.replace('_', '-')} {value}"


def _safetensors(path: Path) -> Iterator[tuple[str, int, int]]:
    """(group, bytes, numbers) of each tensor: the file begins with the header's length and its JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            yield _group(name, {}), end - begin, math.prod(tensor["shape"])


def _onnx_tensors(path: Path) -> Iterator[tuple[str, int, int]]:
    """The same of each constant of a graph; what exporters named onnx::MatMul_42 is known by the node that reads it."""
    from onnx import helper

    graph = read_graph(path)
    readers = {name: (node.name, node.output[0]) for node in reversed(graph.node) for name in node.input}
    for one in graph.initializer:
        numbers = math.prod(one.dims)
        external = next((int(entry.value) for entry in one.external_data if entry.key == "length"), 0)
        stored = len(one.raw_data) or external
        yield (
            _group(one.name, readers),
            stored or numbers * helper.tensor_dtype_to_np_dtype(one.data_type).itemsize,
            numbers,
        )


def _group(name: str, readers: dict[str, tuple[str, str]]) -> str:
    """The part of the model that a tensor belongs to, by its own name, else by those of the nodes behind it in turn."""
    label, output = name, name
    for _ in range(5):
        for group, words in GROUPS.items():
            if any(word in label.lower() for word in words):
                return group
        if output not in readers:
            break
        label, output = readers[output]
    return REST


def _task(bundle: Bundle) -> str:
    if bundle.manifest["task"] is None:
        return "none yet"
    task = bundle.task
    return f"{task.name} ({'a number' if task.kind == 'regression' else ', '.join(task.labels)})"


def _datum(value: Any) -> str:
    """What stands for a piece of data in a manifest: a digest, a count, or a file with its digest."""
    if isinstance(value, dict):
        return ", ".join(_datum(one) for one in value.values())
    return value[:SHOWN_DIGITS] if isinstance(value, str) and len(value) == 64 else str(value)


def _percentages(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.2f}" for name, value in metrics.items())


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 50_000 else f"{size_bytes / 1e6:.4f} MB"
