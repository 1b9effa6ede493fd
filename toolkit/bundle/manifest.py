"""The manifest of a bundle: the entries of `bundle.json`, their bounds, and its reader.

Whatever stands in the file, the reader gives entries of the declared types or a ToolkitError, in bounded memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Required, cast

from pydantic import FailFast, Field
from typing_extensions import TypedDict

from toolkit.bundle.typed_json import MAX_CONFIG_BYTES, MAX_SHOWN, Count, parse_json, type_problems
from toolkit.errors import ToolkitError
from toolkit.files import FileRecord, canonical_json, read_regular
from toolkit.tasks import MAX_LENGTH, ClassScore, TaskRecord

FORMAT_VERSION = 1
MANIFEST, CONFIG, TOKENIZER, CALIBRATION = "bundle.json", "config.json", "tokenizer.json", "calibration.json"
BASELINE = "baseline.json"
CARD = "README.md"
SIGNATURE = "model.sig"  # of all other files, this manifest among them, which therefore does not list it
WEIGHTS = ("model.onnx", "1/model.onnx", "model.safetensors")  # in 1/ where the bundle is laid out for Triton
REQUIRED = (CONFIG, TOKENIZER)
MAX_MANIFEST_BYTES = 32 * 2**20  # the history of a training of a million steps fits
MAX_TOKENIZER_BYTES, MAX_CALIBRATION_BYTES, MAX_BASELINE_BYTES = 64 * 2**20, 4 * 2**20, 4 * 2**20
MAX_SIGNATURE_BYTES = 4 * 2**20
MAX_BUNDLE_BYTES = 32 * 2**30  # a model of 8 billion numbers in float32
MAX_DEPTH = 64  # of nested objects and lists: some thirty generations of `made_from`
SEALED = ("format_version", "versions", "files", "digest")  # entries that `finalize` adds

Kind = Literal["teacher", "student", "general", "onnx"]
ScoredSplit = Literal["dev", "test"]
Metrics = Annotated[dict[str, float], FailFast()]
ByClass = Annotated[dict[str, ClassScore], FailFast()]
Versions = Annotated[dict[str, str], FailFast()]


class Origin(TypedDict, total=False):
    """A bundle or model that another bundle was made from, with its own origins.

    A bundle keeps the entries of its manifest that matter; a model has kind "model" and its weights' SHA-256 or the
    hub's commit.
    """

    kind: Required[str]
    """Kind of the bundle, or `model`."""
    name: Required[str]
    """Name of its directory, or on the hub."""
    digest: str
    """Digest of the bundle."""
    precision: str
    """Precision of its weights."""
    max_length: int
    """Tokens of its longest input."""
    seed: int | None
    """Seed of the command that made it."""
    metrics: Metrics
    """Its metrics, as shares."""
    split: ScoredSplit
    """Split of its metrics."""
    data: Mapping[str, object]
    """Digests of the data that it was made with."""
    versions: Versions
    """Versions of the packages that made it."""
    made_from: Annotated[dict[str, Origin], FailFast()]
    """Its own origins, by role."""
    weights_sha256: str
    """SHA-256 of a model's weights."""
    revision: str
    """Commit of a model on the hub."""


class GateVerdict(TypedDict):
    """A gate of an export: a figure and its bound."""

    name: str
    """What is compared."""
    value: float
    """The figure."""
    bound: float
    """The least or the most that the figure may be."""
    lower: bool
    """Whether `bound` is the least."""
    passed: bool
    """Whether the figure keeps to it."""


class Gates(TypedDict, total=False):
    """The comparison of an export with PyTorch on dev rows."""

    rows: Required[Count]
    """Rows that were compared."""
    verdicts: Required[Annotated[list[GateVerdict], FailFast()]]
    """One verdict for each gate."""
    metrics: Metrics
    """Metrics of the export on these rows."""
    reference_metrics: Metrics
    """Metrics of the PyTorch model on these rows."""


class LinearLayer(TypedDict, total=False):
    """The bounds of a quantized linear layer."""

    max_weight: int
    """Its largest absolute weight, as a whole number."""
    max_int16: Required[Count]
    """The largest sum that AVX2 can meet in 16 bits."""


class Quantization(TypedDict, total=False):
    """The quantized layers of an export; of a tuned one the candidate's name alone."""

    candidate: str
    """Name of the candidate that tuning chose."""
    latency_ms: float
    """Milliseconds of one text a request on one thread of `cpu`, as tuning measured it."""
    cpu: str
    """CPU that tuning ran on."""
    linear: Annotated[dict[str, LinearLayer], FailFast()]
    """Bounds of each linear layer, by its name in the graph."""
    linear_nodes: Count
    """Quantized linear layers."""
    embedding_nodes: Count
    """Quantized embedding tables."""
    int16_limit: Count
    """The most that `max_int16` may be: 32,767."""


class Scores(TypedDict, total=False):
    """The metrics of a model, of its start and of its teacher on a split, and by class those of the model."""

    metrics: Required[Metrics]
    """Metrics of the model, by name, as shares."""
    start_metrics: Metrics
    """Metrics of the student before training."""
    teacher_metrics: Metrics
    """Metrics of the teacher."""
    by_class: ByClass
    """Scores of each class; none for regression."""


class Selection(TypedDict):
    """The rows that chose the step that was kept."""

    split: Literal["train", "dev"]
    """Split that they are of."""
    rows: Count
    """How many they are."""


class ScoreEntries(Scores, total=False):
    """The scores of a bundle: those of the split that is reported, and beside those of test those of dev."""

    split: ScoredSplit
    """Split of the metrics. Without it: dev, scored by a toolkit whose dev chose the steps too."""
    dev_scores: Scores
    """Scores on dev, where `split` is test."""


class Manifest(ScoreEntries, total=False):
    """The entries of `bundle.json`. Sealing it adds the last four; students and exports add those in the middle."""

    kind: Required[Kind]
    """What the bundle is; `general` is a student without a task."""
    task: Required[TaskRecord | None]
    """The task; null for a general student."""
    precision: Required[Annotated[str, Field(pattern="^(fp32|fp16|int8)$")]]
    """Precision of the weights."""
    max_length: Required[Annotated[int, Field(ge=4, le=MAX_LENGTH)]]
    """Tokens of the longest input, special tokens included; longer inputs are cut."""
    parent: Required[str | None]
    """Digest of the bundle that it was made from."""
    config: Required[Mapping[str, object]]
    """Options of the command that made it."""
    seed: Required[int | None]
    """Seed of that command."""
    made_from: Annotated[dict[str, Origin], FailFast()]
    """Models and bundles that it was made from, by role (`teacher`, `start`, `student`)."""
    data: Mapping[str, object]
    """SHA-256 of each split, or the record of a corpus."""

    selection: Selection | None
    """Rows that chose the step that was kept; null where the last step was kept."""
    agreement: float
    """Share of rows with the answer of a teacher that was a file."""
    layer_map: Annotated[list[int], FailFast()]
    """Teacher layer of each student layer, counted from 1."""
    stages: Annotated[Mapping[str, Mapping[str, object]], FailFast()]
    """Steps, losses and times of each training stage."""
    graph: Mapping[str, object]
    """Counts of the exported graph."""
    vocabulary: Mapping[str, object]
    """Word pieces that a trimmed vocabulary kept."""
    quantization: Quantization
    """Quantized layers of an int8 export."""
    tuning: list[object]
    """Candidates that tuning timed."""
    gates: Gates
    """Comparison of an export with PyTorch."""
    license: str
    """License as the owner states it, by the hub's identifier."""

    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)]
    """Version of this format."""
    versions: Versions
    """Versions of the packages that made it."""
    files: Annotated[dict[str, FileRecord], FailFast()]
    """Every other file of the bundle, by its path."""
    digest: str
    """SHA-256 of the manifest in canonical form without this entry."""


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Hash a manifest's canonical form without its `digest` entry (SHA-256)."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(canonical_json(rest)).hexdigest()


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of a bundle; its files are not looked at.

    Raises:
        ToolkitError: there is none, a newer format, or a manifest that is not as it was written or makes no sense.
    """
    fix = f"make {root} again, or restore it from a good copy"
    broken = ToolkitError(f"{root / MANIFEST} is damaged: it is not as it was written", fix=fix)
    try:
        raw = read_regular(root / MANIFEST, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ToolkitError(
            f"{root} is not a bundle: it has no {MANIFEST}"
            if isinstance(error, FileNotFoundError)
            else f"{root / MANIFEST} cannot be read: {error.strerror}",
            expected="a directory made by toolkit finetune, distill or export",
        ) from None
    try:
        manifest = parse_json(raw)
        intact = canonical_json(manifest) == raw
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(manifest, dict):
        raise broken
    version = manifest.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ToolkitError(
            f"{root} has bundle format {version}; this toolkit reads up to {FORMAT_VERSION}",
            fix="pip install --upgrade tinybert-toolkit",
        )
    if not intact or manifest.get("digest") != manifest_digest(manifest):
        raise broken
    if problem := next(_manifest_problems(manifest), None):
        raise ToolkitError(f"{root / MANIFEST} is damaged: {problem}", fix=fix)
    return cast(Manifest, manifest)


def _manifest_problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what makes no sense in a manifest, types first: what follows relies on them."""
    yield from type_problems(manifest, Manifest)
    yield from (f"{name} is missing" for name in SEALED if name not in manifest)
    if b"\n" + b" " * (2 * MAX_DEPTH) in canonical_json(manifest):
        yield f"more than {MAX_DEPTH} levels of objects and lists"
    if (manifest["task"] is None) != (manifest["kind"] == "general"):
        yield f"kind {manifest['kind']} {'without' if manifest['task'] is None else 'with'} a task"
    task = manifest["task"] or {"kind": "", "labels": ["-"], "metrics": ["-"]}
    if not task["labels"] or not task["metrics"] or len(set(task["labels"])) != len(task["labels"]):
        yield "task: no labels, no metrics, or a label twice"
    if task["kind"] == "regression" and len(task["labels"]) != 1:
        yield "task: a regression has one label"
    yield from _file_problems({name: record["size_bytes"] for name, record in manifest["files"].items()})


def _file_problems(sizes: dict[str, int]) -> Iterator[str]:
    """Yield what makes no sense in the names and bytes of a bundle's files."""
    for name in sizes:
        odd = "\0" in name or any(part in ("", ".", "..") for part in name.split("/"))
        if odd or name in (MANIFEST, SIGNATURE):
            yield f"files: {name[:MAX_SHOWN]!r} is no file's path in the bundle"
    if not any(name in sizes for name in WEIGHTS):
        yield f"files: no weights, {' or '.join(WEIGHTS)}"
    yield from (f"files: {name} is not listed" for name in REQUIRED if name not in sizes)
    bounds = {
        CONFIG: MAX_CONFIG_BYTES, TOKENIZER: MAX_TOKENIZER_BYTES, CALIBRATION: MAX_CALIBRATION_BYTES,
        BASELINE: MAX_BASELINE_BYTES,
    }  # fmt: skip
    for name in sizes.keys() & bounds.keys():
        if sizes[name] > bounds[name]:
            yield f"files: {name} has {sizes[name]:,} bytes, at most {bounds[name]:,} are read"
    if sum(sizes.values()) > MAX_BUNDLE_BYTES:
        yield f"files: {sum(sizes.values()):,} bytes together, at most {MAX_BUNDLE_BYTES:,} are read"
