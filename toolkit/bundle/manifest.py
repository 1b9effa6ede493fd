"""The manifest of a bundle: the entries of `bundle.json` and their bounds, and the readers of it and of config.json.

Whatever stands in the two files, a reader gives entries of the declared types or a ToolkitError, in bounded memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Required, cast

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from toolkit.errors import ToolkitError
from toolkit.files import FileRecord, canonical_json, read_regular
from toolkit.tasks import MAX_LENGTH, TaskRecord

FORMAT_VERSION = 1
MANIFEST, CONFIG, TOKENIZER, CALIBRATION = "bundle.json", "config.json", "tokenizer.json", "calibration.json"
WEIGHTS = ("model.onnx", "1/model.onnx", "model.safetensors")  # in 1/ where the bundle is laid out for Triton
REQUIRED = (CONFIG, TOKENIZER)
MAX_MANIFEST_BYTES = 32 * 2**20  # the history of a training of a million steps fits
MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES, MAX_CALIBRATION_BYTES = 4 * 2**20, 64 * 2**20, 4 * 2**20
MAX_BUNDLE_BYTES = 32 * 2**30  # a model of 8 billion numbers in float32
MAX_ENTRIES = 1_500_000  # objects, lists and their named entries: a history of 250,000 rows fits
MAX_DEPTH = 64  # of nested objects and lists: some thirty generations of `made_from`
MAX_SHOWN = 200  # characters of a name in an error
SEALED = ("format_version", "versions", "files", "digest")  # entries that `finalize` adds

Kind = Literal["teacher", "student", "general", "onnx"]
ScoredSplit = Literal["dev", "test"]
Metrics = Annotated[dict[str, float], FailFast()]
Versions = Annotated[dict[str, str], FailFast()]
Count = Annotated[int, Field(ge=0, le=2**62)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Origin(TypedDict, total=False):
    """A bundle or model that another bundle was made from, with its own origins.

    A bundle keeps the entries of its manifest that matter; a model has kind "model" and its weights' SHA-256 or the
    hub's commit.
    """

    kind: Required[str]
    name: Required[str]
    digest: str
    precision: str
    max_length: int
    seed: int | None
    metrics: Metrics
    split: ScoredSplit
    data: Mapping[str, object]
    versions: Versions
    made_from: Annotated[dict[str, Origin], FailFast()]
    weights_sha256: str
    revision: str


class GateVerdict(TypedDict):
    """A gate of an export: the figure, its bound ("lower": the least, else the most), and whether it is held."""

    name: str
    value: float
    bound: float
    lower: bool
    passed: bool


class Gates(TypedDict, total=False):
    """The comparison of an export with PyTorch on dev rows."""

    rows: Required[Count]
    verdicts: Required[Annotated[list[GateVerdict], FailFast()]]
    metrics: Metrics
    reference_metrics: Metrics


class LinearLayer(TypedDict, total=False):
    """A quantized linear layer: its largest weight, and the largest sum that AVX2 can meet in 16 bits."""

    max_weight: int
    max_int16: Required[Count]


class Quantization(TypedDict, total=False):
    """The quantized layers of an export; of a tuned one the candidate's name alone."""

    candidate: str
    linear: Annotated[dict[str, LinearLayer], FailFast()]
    linear_nodes: Count
    embedding_nodes: Count
    int16_limit: Count


class Scores(TypedDict, total=False):
    """The metrics of a model, of its start and of its teacher on a split."""

    metrics: Required[Metrics]
    start_metrics: Metrics
    teacher_metrics: Metrics


class Selection(TypedDict):
    """The rows that chose the step that was kept: how many, and of which split."""

    split: Literal["train", "dev"]
    rows: Count


class ScoreEntries(Scores, total=False):
    """The scores of a bundle: those of the split that is reported, and beside those of test those of dev.

    A bundle without `split` was scored on dev, by a toolkit whose dev chose the steps too.
    """

    split: ScoredSplit
    dev_scores: Scores


class Manifest(ScoreEntries, total=False):
    """The entries of `bundle.json`. `finalize` adds the last four; students and exports add those in the middle."""

    kind: Required[Kind]
    task: Required[TaskRecord | None]  # None: a general student
    precision: Required[Annotated[str, Field(pattern="^(fp32|fp16|int8)$")]]  # of the weights
    max_length: Required[Annotated[int, Field(ge=4, le=MAX_LENGTH)]]
    parent: Required[str | None]  # digest of the bundle that it was made from
    config: Required[Mapping[str, object]]  # options of the command
    seed: Required[int | None]
    made_from: Annotated[dict[str, Origin], FailFast()]  # by role
    data: Mapping[str, object]  # digests of the splits, or the record of a corpus

    selection: Selection | None  # None: the last step was kept
    agreement: float  # with the answers of a teacher that was a file
    layer_map: Annotated[list[int], FailFast()]
    stages: Annotated[Mapping[str, Mapping[str, object]], FailFast()]
    graph: Mapping[str, object]
    vocabulary: Mapping[str, object]
    quantization: Quantization
    tuning: list[object]
    gates: Gates

    format_version: Annotated[int, Field(ge=1, le=FORMAT_VERSION)]
    versions: Versions
    files: Annotated[dict[str, FileRecord], FailFast()]
    digest: str


class ModelConfig(TypedDict, total=False):
    """The entries of a Hugging Face `config.json` that this toolkit reads itself."""

    model_type: str
    pad_token_id: Annotated[int, Field(ge=0, le=2**31 - 1)] | None
    vocab_size: Size
    max_position_embeddings: Size
    type_vocab_size: Annotated[int, Field(ge=0, le=2**31 - 1)]
    num_hidden_layers: Size
    num_attention_heads: Size
    hidden_size: Size
    intermediate_size: Size
    id2label: Annotated[dict[str, str], FailFast()]


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


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's `config.json`: the entries of ModelConfig have their types, others are as they stand.

    Raises:
        ToolkitError: it is missing, too large, no JSON object, or an entry has another type.
    """
    expected = "the config.json that Hugging Face's save_pretrained writes"
    try:
        config = parse_json(read_regular(path, MAX_CONFIG_BYTES))
        problem = next(type_problems(config, ModelConfig), None)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise ToolkitError(f"{path} is not a model's configuration: {problem}", expected=expected)
    return cast(dict[str, Any], config)


def parse_json(raw: bytes) -> Any:
    """Parse JSON whose size in memory is bounded: a file of empty lists takes twenty times its own bytes."""
    if raw.count(b"[") + raw.count(b"{") + raw.count(b":") > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES:,} entries")
    return json.loads(raw)


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
        if "\0" in name or name in ("", MANIFEST) or any(part in ("", ".", "..") for part in name.split("/")):
            yield f"files: {name[:MAX_SHOWN]!r} is no file's path in the bundle"
    if not any(name in sizes for name in WEIGHTS):
        yield f"files: no weights, {' or '.join(WEIGHTS)}"
    yield from (f"files: {name} is not listed" for name in REQUIRED if name not in sizes)
    bounds = {CONFIG: MAX_CONFIG_BYTES, TOKENIZER: MAX_TOKENIZER_BYTES, CALIBRATION: MAX_CALIBRATION_BYTES}
    for name in sizes.keys() & bounds.keys():
        if sizes[name] > bounds[name]:
            yield f"files: {name} has {sizes[name]:,} bytes, at most {bounds[name]:,} are read"
    if sum(sizes.values()) > MAX_BUNDLE_BYTES:
        yield f"files: {sum(sizes.values()):,} bytes together, at most {MAX_BUNDLE_BYTES:,} are read"


def type_problems(value: object, shape: Any) -> Iterator[str]:
    """Yield the entries that do not have the declared type or bounds."""
    try:
        _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            place = ".".join(map(str, problem["loc"]))
            yield f"{place[:MAX_SHOWN] or 'all of it'}: {problem['msg']}"


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
