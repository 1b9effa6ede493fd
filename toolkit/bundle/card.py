"""The card of a bundle: README.md, which the Hugging Face hub shows, from the manifest and the files beside it.

Everything in it stands in the bundle already, so that equal bundles have equal cards: no clock, no folder's own path,
and of the directories that it was made from their last names alone. A license is the person's to state.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.bundle.calibration import Calibration, calibration_of, describe, describe_promises
from toolkit.bundle.card_metadata import hub_models, metadata, model_name
from toolkit.bundle.card_usage import usage
from toolkit.bundle.manifest import CALIBRATION, CARD, CONFIG, WEIGHTS, Manifest, Origin, Scores
from toolkit.bundle.scores import scores_by_split, split_of
from toolkit.bundle.typed_json import read_config
from toolkit.bundle.weights import file_bytes, safetensors_parameters
from toolkit.errors import ToolkitError, some
from toolkit.tasks import TASKS, TaskRecord

MAX_CLASSES = 50  # rows of the table by class: of more labels those that are recognized worst
SHOWN_DIGITS = 12  # of a digest
KINDS = {
    "teacher": "a teacher, in PyTorch", "student": "a distilled student, in PyTorch",
    "general": "a distilled student without a task, in PyTorch", "onnx": "an ONNX export",
}  # fmt: skip
PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


@dataclass(frozen=True)
class CardSource:
    """A bundle that is being sealed.

    Attributes:
        folder: its files, but for the card and the manifest.
        manifest: its entries, but for files and digest.
        family: `model_type` of its configuration; None where it has none that can be read.
        calibration: of its scores.
    """

    folder: Path
    manifest: Manifest
    family: str | None
    calibration: Calibration | None

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> CardSource:
        """Read what the card tells of the files; one that is damaged is told of by whoever reads it."""
        family, calibration = None, None
        with contextlib.suppress(ToolkitError):
            family = read_config(folder / CONFIG).get("model_type")
        with contextlib.suppress(OSError, ValueError):
            calibration = calibration_of((folder / CALIBRATION).read_bytes(), manifest["task"])
        return cls(folder, manifest, family, calibration)


def write_card(folder: Path, manifest: Manifest) -> None:
    """Write the card of a bundle that is being sealed, in place of an earlier one."""
    (folder / CARD).write_text(card(CardSource.of(folder, manifest)), encoding="utf-8")


def card(source: CardSource) -> str:
    """Write a card: metadata, what the model is and was made from, its scores, gates, size, limits, how to load it."""
    manifest = source.manifest
    sections = [
        _head(source), _made_from(manifest), _scores(source), _by_class(manifest), _gates(manifest), _size(source),
        _limits(source), usage(manifest, source.folder),
    ]  # fmt: skip
    return f"{metadata(manifest, source.family)}\n" + "\n\n".join(filter(None, sections)) + "\n"


def _head(source: CardSource) -> str:
    manifest = source.manifest
    precision = PRECISIONS[manifest["precision"]]
    version = manifest["versions"].get("tinybert-toolkit", "")
    return (
        f"# {model_name(manifest)}\n\n{_what(manifest['task'])} It is {KINDS[manifest['kind']]}, with {precision} "
        f"weights{f', of the family {plain(source.family)}' if source.family else ''}.\n\n"
        f"tinybert-toolkit {version} wrote this page from `bundle.json`, which holds the SHA-256 of every file here; "
        "`toolkit inspect .` checks them and shows more."
    )


def _what(task: TaskRecord | None) -> str:
    if task is None:
        return "This model is an encoder of texts, without a task yet."
    texts = "two texts together" if task["pair"] else "a text"
    name, labels = plain(task["name"]), some(list(map(plain, task["labels"])), 20)
    if task["kind"] == "regression":
        return f"This model answers {texts} with a number ({name})."
    if task["kind"] == "multi_label":
        return f"This model gives {texts} any number of {len(task['labels'])} labels ({name}): {labels}."
    return f"This model gives {texts} one of {len(task['labels'])} labels ({name}): {labels}."


def _made_from(manifest: Manifest) -> str:
    lines = ["## What it was made from", "", *_origins(manifest, 0)]
    return "\n".join(lines) if len(lines) > 2 else ""


def _origins(record: Manifest | Origin, depth: int) -> Iterator[str]:
    """Yield the data of a bundle and its origins as a list, each with its own data and origins below it."""
    indent = "  " * depth
    data = record.get("data") or {}
    digests = [f"{plain(name)} `{value[:SHOWN_DIGITS]}`" for name, value in data.items() if isinstance(value, str)]
    if digests:
        yield f"{indent}- data, by their SHA-256: {', '.join(digests)}"
    for role, origin in (record.get("made_from") or {}).items():
        name = origin["name"] if "revision" in origin else Path(origin["name"]).name
        facts = [
            f"digest `{origin['digest'][:SHOWN_DIGITS]}`" if "digest" in origin else "",
            f"weights `{origin['weights_sha256'][:SHOWN_DIGITS]}`" if "weights_sha256" in origin else "",
            f"commit `{origin['revision'][:SHOWN_DIGITS]}` of the hub" if "revision" in origin else "",
            _metrics_of(origin),
        ]
        yield f"{indent}- {plain(role)}: {plain(name)}{''.join(f', {fact}' for fact in facts if fact)}"
        yield from _origins(origin, depth + 1)


def _metrics_of(origin: Origin) -> str:
    metrics = origin.get("metrics") or {}
    shown = ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in metrics.items())
    return f"{origin.get('split', 'dev')} {shown}" if shown else ""


def _scores(source: CardSource) -> str:
    manifest = source.manifest
    rows = [row for split, scores in scores_by_split(manifest).items() for row in _score_rows(split, scores)]
    parts = []
    if rows:
        header = ["split", "metric, %", "this model", "before training", "its teacher"]
        parts = [_rows_of_scores(manifest), table(header, rows)]
    if source.calibration is not None:
        parts += [f"Calibrated {describe(source.calibration)}.", *map(_sentence, _promises(source, source.calibration))]
    return "\n\n".join(["## Scores", *filter(None, parts)]) if parts else ""


def _promises(source: CardSource, calibration: Calibration) -> list[str]:
    task = source.manifest["task"]
    return describe_promises(calibration, task["labels"] if task else ())


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _score_rows(split: str, scores: Scores) -> Iterator[list[str]]:
    others = [scores.get("start_metrics") or {}, scores.get("teacher_metrics") or {}]
    for name, value in scores["metrics"].items():
        beside = [f"{100 * metrics[name]:.2f}" if name in metrics else "-" for metrics in others]
        yield [split, name.replace("_", " "), f"{100 * value:.2f}", *beside]


def _rows_of_scores(manifest: Manifest) -> str:
    if "split" not in manifest:
        return "The rows of dev also chose the step that was kept."
    if "selection" not in manifest:
        return ""
    if not (rows := manifest["selection"]):
        return "No rows chose the step: the last one was kept."
    reported = split_of(manifest)
    return f"{rows['rows']:,} rows of {rows['split']} chose the step that was kept; those of {reported} chose nothing."


def _by_class(manifest: Manifest) -> str:
    classes = manifest.get("by_class")
    if not classes:
        return ""
    worst = set(sorted(classes, key=lambda label: classes[label]["f1"])[:MAX_CLASSES])
    rows = []
    for label, score in classes.items():
        if label in worst:
            shares = (score["precision"], score["recall"], score["f1"])
            rows.append([plain(label), f"{score['rows']:,}", *(f"{100 * share:.2f}" for share in shares)])
    parts = [
        f"## By class, on {split_of(manifest)}",
        table(["class", "rows", "precision, %", "recall, %", "F1, %"], rows),
    ]
    if len(rows) < len(classes):
        parts.append(f"These {len(rows)} of {len(classes)} are recognized worst; `bundle.json` has all.")
    return "\n\n".join(parts)


def _gates(manifest: Manifest) -> str:
    if (gates := manifest.get("gates")) is None:
        return ""
    rows = [
        [gate["name"], f"{gate['value']:.4g}", f"{'at least' if gate['lower'] else 'at most'} {gate['bound']:.4g}",
         "yes" if gate["passed"] else "no"]
        for gate in gates["verdicts"]
    ]  # fmt: skip
    head = f"## Gates\n\nThe export was compared with its PyTorch model on {gates['rows']:,} rows of dev.\n\n"
    return head + table(["gate", "figure", "bound", "held"], rows)


def _size(source: CardSource) -> str:
    name = next((name for name in WEIGHTS if (source.folder / name).is_file()), None)
    if name is None:
        return ""
    sentences = [f"`{name}` has {file_bytes(source.folder / name) / 1e6:,.2f} MB"]
    if name.endswith(".safetensors"):
        with contextlib.suppress(ToolkitError):
            sentences[0] += f" and {safetensors_parameters(source.folder / name):,} parameters"
    tuned = source.manifest.get("quantization") or {}
    if "latency_ms" in tuned and "cpu" in tuned:
        sentences.append(
            f"One text a request on one thread took {tuned['latency_ms']:.3g} ms (median over texts of dev) on a "
            f"{plain(tuned['cpu'])}, where the fastest of several graphs was chosen"
        )
    return "## Size and speed\n\n" + ". ".join(sentences) + "."


def _limits(source: CardSource) -> str:
    manifest, task = source.manifest, source.manifest["task"]
    lines = [f"It reads {manifest['max_length']} tokens of an input, special ones included; the rest is cut off."]
    if task is not None and task["kind"] == "classification":
        lines.append("Every text gets one of its labels, also a text that none of them fits.")
    if task is not None and task["name"] not in TASKS:
        lines.append("Which languages it reads follows from its encoder and its data; nothing here states them.")
    if task is not None and task["kind"] != "regression":
        lines.append(
            "Its scores are calibrated in this toolkit (`predict`, `score`, `serve`); the logits of the graph are not."
            if source.calibration is not None
            else "Its scores are not calibrated: 0.9 need not be right nine times in ten (`toolkit calibrate`)."
        )
    if vocabulary := manifest.get("vocabulary"):
        lines.append(
            f"Its vocabulary is trimmed to {vocabulary.get('kept')} of {vocabulary.get('of')} word pieces: other words "
            "are read in smaller pieces, and texts unlike those it was chosen by lose more."
        )
    lines.append("The figures above hold for the rows that they name. Measure on rows of your own: `toolkit evaluate`.")
    if "license" not in manifest:
        base = some(sorted({plain(name) for name in hub_models(manifest)})) or "its encoder"
        lines.append(f"No license is stated here. Those of {base} and of the data may bind who uses it.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; figures stand on the right."""
    sides = [
        "--:" if all(re.fullmatch(r"-|-?[\d.,e+-]+", row[i]) for row in rows) else "---" for i in range(len(header))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, sides, *rows))


def plain(text: str) -> str:
    """Let a name stand in Markdown as it is: on one line, without the signs of a table, of code or of HTML."""
    kept = " ".join("".join(sign if sign.isprintable() else " " for sign in text[:200]).split())
    return re.sub(r"([|`*\[\]\\])", r"\\\1", kept).replace("<", "&lt;")
