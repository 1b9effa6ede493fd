"""`toolkit inspect`: the contents of a bundle, and the chain of models and data that it was made from.

The manifest holds the whole chain in `made_from`, by role: an int8 export names its student, which names its teacher
and the student that it started from, and so on to the encoder, each with the digests of its weights and its data. So
the last bundle alone shows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.tree import Tree

from toolkit.bundle.bom import write_bom
from toolkit.bundle.calibration import describe, describe_promises
from toolkit.bundle.contents import read_calibration
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.bundle.manifest import Gates, Manifest, Origin, Quantization
from toolkit.bundle.scores import scores_by_split
from toolkit.bundle.weights import operators, weight_parts
from toolkit.config import Config, DistillConfig, ExportConfig, FinetuneConfig
from toolkit.console import echo
from toolkit.errors import ToolkitError
from toolkit.reports.table import percent

SHOWN_DIGITS = 12  # of a digest
CONFIGS: dict[str, type[Config]] = {
    "teacher": FinetuneConfig, "student": DistillConfig, "general": DistillConfig, "onnx": ExportConfig,
}  # fmt: skip


def inspect_bundle(path: str | Path) -> Tree:
    """Describe a bundle as a tree to print: task, metrics, gates, origins, weights, options, files.

    Raises:
        ToolkitError: no bundle, or a damaged one.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    head = f"{bundle.path}: {bundle.kind}, {bundle.precision}, {_megabytes(bundle.weight_bytes)}, {bundle.digest}"
    tree = Tree(head, highlight=False)
    tree.add(f"task: {_task(bundle)}, texts up to {bundle.max_length} tokens")
    _add_metrics(tree, manifest)
    if (calibration := read_calibration(bundle)) is not None:
        branch = tree.add(describe(calibration))
        for promise in describe_promises(calibration, bundle.task.labels):
            branch.add(promise)
    if gates := manifest.get("gates"):
        _add_gates(tree, gates)
    _add_origins(made_from := tree.add("made from"), manifest)
    if "made_from" not in manifest and (parent := manifest.get("parent")):
        made_from.add(f"{parent[:SHOWN_DIGITS]}, by a toolkit that kept no more of it")
    _add_weights(tree, bundle)
    options = ", ".join(non_default_options(bundle.kind, manifest.get("config") or {}))
    tree.add(f"options other than the defaults: {options or 'none'}")
    files = tree.add(f"files: {len(manifest['files'])}, as {bundle.path / 'bundle.json'} lists them")
    for name, record in manifest["files"].items():
        files.add(f"{name}: {record['size_bytes']:,} bytes, SHA-256 {record['sha256'][:SHOWN_DIGITS]}")
    tree.add(f"made with: {_pairs(manifest['versions'])}")
    return tree


def write_bill(path: str | Path, out: str) -> None:
    """Write the bill of materials of a bundle to a file outside of it, since a bundle holds only what it lists.

    Raises:
        ToolkitError: no bundle, a damaged one, or a file that lies in it or cannot be written.
    """
    bundle, target = open_bundle(path), Path(out)
    if target.resolve().is_relative_to(bundle.path.resolve()):
        raise ToolkitError(f"--bom {out} lies in {bundle.path}, whose files are sealed", fix="a file beside the bundle")
    write_bom(bundle, target)
    echo(f"wrote {out}")


def _add_metrics(tree: Tree, manifest: Manifest) -> None:
    for split, scores in scores_by_split(manifest).items():
        for name, metrics in (
            (split, scores.get("metrics")),
            (f"{split}, before training", scores.get("start_metrics")),
            (f"{split}, its teacher", scores.get("teacher_metrics")),
        ):
            if metrics:
                tree.add(f"{name}: {_percentages(metrics)}")
    if "selection" in manifest:
        rows = manifest["selection"]
        tree.add(f"step chosen by {rows['rows']:,} rows of {rows['split']}" if rows else "the last step was kept")


def _add_gates(tree: Tree, gates: Gates) -> None:
    branch = tree.add(f"gates, against PyTorch on {gates['rows']:,} dev rows")
    for gate in gates["verdicts"]:
        bound = f"{'at least' if gate['lower'] else 'at most'} {gate['bound']:g}"
        branch.add(f"{gate['name']}: {gate['value']:.4g}, {bound}: {'held' if gate['passed'] else 'MISSED'}")


def _add_origins(branch: Tree, manifest: Manifest | Origin) -> None:
    """Add the data of a bundle, and its origins, each with its own data and origins below it."""
    for name, values in (manifest.get("data") or {}).items():
        for value in values if isinstance(values, list) else [values]:
            branch.add(f"data, {name}: {_datum(value)}")
    for role, origin in (manifest.get("made_from") or {}).items():
        digest = origin.get("digest") or origin.get("weights_sha256") or origin.get("revision") or "no digest"
        facts = [
            digest[:SHOWN_DIGITS], origin.get("precision"), _scores(origin),
            f"seed {origin['seed']}" if "seed" in origin else "",
            f"toolkit {version}" if (version := (origin.get("versions") or {}).get("tinybert-toolkit")) else "",
        ]  # fmt: skip
        title = f"{role} {origin['name']} ({origin['kind']})"
        _add_origins(branch.add(f"{title}: {', '.join(fact for fact in facts if fact)}"), origin)


def _add_weights(tree: Tree, bundle: Bundle) -> None:
    try:
        parts = weight_parts(bundle.weights)
    except ImportError:
        tree.add("tensors and operators: pip install 'tinybert-toolkit[export]' to read the graph")
        return
    total = sum(part.size_bytes for part in parts.values())
    branch = tree.add(f"weights: {_megabytes(total)}, {sum(part.parameters for part in parts.values()):,} numbers")
    for name, part in parts.items():
        share = percent(part.size_bytes / max(1, total), 0)
        branch.add(f"{name}: {_megabytes(part.size_bytes)} ({share}), {part.parameters:,} numbers")
    if bundle.weights.suffix != ".onnx":
        return
    counts = operators(bundle.weights)
    tree.add(f"operators: {counts.total()}").add(_pairs(dict(counts.most_common())))
    record: Quantization = bundle.manifest.get("quantization") or {}
    if "candidate" in record:
        tree.add(f"tuned: {record['candidate']}")
    if linear := record.get("linear"):
        worst, most = max(layer["max_int16"] for layer in linear.values()), record.get("int16_limit", 0)
        tree.add(
            f"int8: {record.get('linear_nodes', len(linear))} linear layers, {record.get('embedding_nodes', 0)} "
            f"embedding tables; the largest sum that AVX2 can meet is {worst:,} of {most:,}"
            f"{': nothing saturates' if worst <= most else ''}"
        )


def non_default_options(kind: str, config: Mapping[str, object]) -> Iterator[str]:
    """List the options in a manifest whose value is not the default."""
    fields = {field.name: field.default for field in dataclasses.fields(CONFIGS[kind])} if kind in CONFIGS else {}  # type: ignore[arg-type]
    for name, value in config.items():
        default = fields.get(name, dataclasses.MISSING)
        if value != (list(default) if isinstance(default, tuple) else default):  # JSON has no tuples
            yield f"{name.replace('_', '-')} {value}"


def _task(bundle: Bundle) -> str:
    if bundle.manifest["task"] is None:
        return "none yet"
    task = bundle.task
    return f"{task.name} ({'a number' if task.kind == 'regression' else ', '.join(task.labels)})"


def _datum(value: object) -> str:
    """Shorten a piece of data in a manifest: a digest, a count, or a file with its digest."""
    if isinstance(value, dict):
        return ", ".join(map(_datum, value.values()))
    return value[:SHOWN_DIGITS] if isinstance(value, str) and len(value) == 64 else str(value)


def _percentages(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.2f}" for name, value in metrics.items())


def _scores(origin: Origin) -> str:
    """Name an origin's metrics and their split, where it has any."""
    metrics = origin.get("metrics")
    return f"{origin.get('split', 'dev')} {_percentages(metrics)}" if metrics else ""


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 50_000 else f"{size_bytes / 1e6:.4f} MB"
