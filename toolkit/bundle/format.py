"""The bundle: a directory that Hugging Face's own classes open, plus `bundle.json`, its manifest.

The manifest holds what the bundle is, and the SHA-256 and size of every other file. It is written in canonical JSON and
holds the SHA-256 of its own other entries: the digest, by which a child names its parent. A bundle is written to a
temporary sibling and renamed into place, so a crash leaves the old bundle or none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, cast

from toolkit.errors import ToolkitError, raise_problems
from toolkit.files import FileRecord, atomic_directory, canonical_json, file_record, open_regular, read_regular
from toolkit.measurement.environment import tool_versions
from toolkit.tasks import Task, TaskRecord

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
WEIGHTS = ("model.onnx", "1/model.onnx", "model.safetensors")  # in 1/ where the bundle is laid out for Triton
REQUIRED = ("config.json", "tokenizer.json")
MAX_MANIFEST_BYTES = 32 * 2**20  # the history of a training of a million steps fits
Kind = Literal["teacher", "student", "general", "onnx"]


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
    metrics: dict[str, float]
    data: Mapping[str, object]
    versions: dict[str, str]
    made_from: dict[str, Origin]
    weights_sha256: str
    revision: str


class Manifest(TypedDict, total=False):
    """The entries of `bundle.json`. `finalize` adds the last four; students and exports add those in the middle."""

    kind: Required[Kind]
    task: Required[TaskRecord | None]  # None: a general student
    precision: Required[str]  # of the weights: fp32, fp16, int8, ...
    max_length: Required[int]
    parent: Required[str | None]  # digest of the bundle that it was made from
    config: Required[Mapping[str, object]]  # options of the command
    seed: Required[int | None]
    metrics: Required[dict[str, float]]  # on dev
    made_from: dict[str, Origin]  # by role
    data: Mapping[str, object]  # digests of the splits, or the record of a corpus

    start_metrics: dict[str, float]
    teacher_metrics: dict[str, float]
    layer_map: list[int]
    stages: Mapping[str, object]
    graph: Mapping[str, object]
    vocabulary: Mapping[str, object]
    quantization: dict[str, Any]
    tuning: list[Any]
    gates: dict[str, Any]

    format_version: int
    versions: dict[str, str]
    files: dict[str, FileRecord]
    digest: str


def new_manifest(
    kind: Kind, task: TaskRecord | None, *, max_length: int, parent: str | None, made_from: dict[str, Origin],
    config: Mapping[str, object], seed: int | None, data: Mapping[str, object],
    metrics: dict[str, float] | None = None, precision: str = "fp32",
) -> Manifest:  # fmt: skip
    """Make the entries that every command writes; the caller adds its own."""
    return {
        "kind": kind, "task": task, "precision": precision, "max_length": max_length, "parent": parent,
        "made_from": made_from, "config": config, "seed": seed, "data": data, "metrics": metrics or {},
    }  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A bundle that was opened and verified; its properties read the manifest."""

    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and through its list of files of everything in the bundle."""
        return self.manifest["digest"]

    @property
    def kind(self) -> Kind:
        """The command's product: teacher, student, general student, or ONNX export."""
        return self.manifest["kind"]

    @property
    def precision(self) -> str:
        """Precision of the weights: fp32, fp16 or int8."""
        return self.manifest["precision"]

    @property
    def max_length(self) -> int:
        """The most tokens of an input, special ones included."""
        return self.manifest["max_length"]

    @property
    def task(self) -> Task:
        """The task whose labels the logits stand for.

        Raises:
            ToolkitError: a general student, which has no task yet.
        """
        if (task := self.manifest["task"]) is None:
            raise ToolkitError(
                f"{self.path} is a general student: it has not learnt a task yet",
                fix=f"toolkit distill --teacher DIR --task TASK --init {self.path} --out DIR",
            )
        return Task.from_dict(task, self.max_length)

    @property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        return dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))

    @property
    def weights(self) -> Path:
        """The weight file, at a path of WEIGHTS."""
        return next(self.path / name for name in WEIGHTS if name in self.manifest["files"])

    @property
    def weight_bytes(self) -> int:
        """Bytes of every file that the model needs, external ONNX data included."""
        files = self.manifest["files"].items()
        return sum(record["size_bytes"] for name, record in files if name.startswith(WEIGHTS))


def is_bundle(path: Path) -> bool:
    """Return whether a directory holds a manifest; nothing is verified."""
    return (path / MANIFEST).is_file()


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify its version, and the size and SHA-256 of every file in it.

    Raises:
        ToolkitError: not a bundle, a newer format, a file that is missing or differs, a file that is not listed, a
            FIFO or device, or a link out of the folder; the file is named.
    """
    root = Path(path)
    raw = _read_manifest(root)
    present = _list_files(root)
    manifest = _parse_manifest(root, raw)
    unlisted = sorted(present - {MANIFEST} - manifest["files"].keys())
    raise_problems(
        unlisted, subject=f"{root} holds files that its {MANIFEST} does not list", fix="move them out of the bundle"
    )
    for name, record in manifest["files"].items():
        _check_file(root, name, record)
    return Bundle(root, manifest)


@contextmanager
def write_bundle(out: str | Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a staging directory; on a clean exit add `bundle.json` and rename the directory to `out`.

    The caller saves the model and tokenizer files there, and may add entries to `manifest` until the exit. After an
    exception nothing is left behind.

    Raises:
        ToolkitError: `out` exists and is not a bundle (it is never overwritten), or its parent cannot be written.
    """
    check_output_path(Path(out))
    with atomic_directory(Path(out)) as staging:
        yield staging
        finalize(staging, manifest)


def check_output_path(target: Path, marker: str = MANIFEST, what: str = "bundle") -> None:
    """Refuse a target that cannot be written, before hours of training.

    Args:
        target: the folder to make.
        marker: the file that marks an earlier folder of the same kind, which may be replaced.
        what: the kind, in words.

    Raises:
        ToolkitError: the target exists and is something else, or cannot be written.
    """
    if target.name in ("", ".."):
        raise ToolkitError(f"--out {target} cannot be replaced as a whole", expected="the path of a folder to make")
    if target.exists() and not (target / marker).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise ToolkitError(
            f"{target} exists and is not a {what}, so it is not overwritten",
            expected=f"a new path, an empty folder or an earlier {what}",
            fix=f"another --out, or remove {target} yourself",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolkitError(f"cannot create {target.parent}: {error.strerror}", fix="another --out") from error
    if not os.access(target.parent, os.W_OK):
        raise ToolkitError(f"{target.parent} is not writable", fix="another --out")


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Hash a manifest's canonical form without its `digest` entry (SHA-256)."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(canonical_json(rest)).hexdigest()


def finalize(staging: Path, manifest: Manifest) -> None:
    """Complete a manifest with format, versions, files and digest, and write it beside the files."""
    manifest["format_version"] = FORMAT_VERSION
    manifest["versions"] = tool_versions()
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    manifest["files"] = {path.relative_to(staging).as_posix(): file_record(path) for path in files}
    missing = [name for name in REQUIRED if name not in manifest["files"]]
    assert not missing, f"a bundle needs {missing}"
    manifest["digest"] = manifest_digest(manifest)
    (staging / MANIFEST).write_bytes(canonical_json(manifest))


def _read_manifest(root: Path) -> bytes:
    if not root.is_dir():
        raise ToolkitError(f"{root}: no such directory", expected="a bundle made by finetune, distill or export")
    _refuse_link_out(root, root / MANIFEST)
    try:
        return read_regular(root / MANIFEST, MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise ToolkitError(
            f"{root} is not a bundle: it has no {MANIFEST}",
            expected="a directory made by toolkit finetune, distill or export",
        ) from None


def _list_files(root: Path) -> set[str]:
    """List the files below a bundle by their paths in it; refuse links out, FIFOs and devices among them."""
    names = set()
    for path in root.rglob("*"):
        _refuse_link_out(root, path)
        if path.is_dir():
            continue
        if not path.is_file():
            raise ToolkitError(f"{path} is not a regular file", fix=f"make {root} again, or move it away")
        names.add(path.relative_to(root).as_posix())
    return names


def _parse_manifest(root: Path, raw: bytes) -> Manifest:
    broken = ToolkitError(
        f"{root / MANIFEST} is damaged: it is not as it was written",
        fix=f"make {root} again, or restore it from a good copy",
    )
    try:
        manifest = json.loads(raw)
        intact = canonical_json(manifest) == raw
    except ValueError:
        raise broken from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ToolkitError(
            f"{root} has bundle format {version}; this toolkit reads up to {FORMAT_VERSION}",
            fix="pip install --upgrade tinybert-toolkit",
        )
    keys = {"format_version", "kind", "task", "precision", "max_length", "files"}
    if not intact or not isinstance(manifest, dict) or not keys <= manifest.keys():
        raise broken
    if manifest.get("digest") != manifest_digest(manifest):
        raise broken
    if not any(name in manifest["files"] for name in WEIGHTS):
        raise ToolkitError(f"{root} holds no weights", expected=" or ".join(WEIGHTS), fix=f"make {root} again")
    if missing := [name for name in REQUIRED if name not in manifest["files"]]:
        raise ToolkitError(f"{root / MANIFEST} does not list {' and '.join(missing)}", fix=f"make {root} again")
    return cast(Manifest, manifest)


def _refuse_link_out(root: Path, path: Path) -> None:
    """Refuse a link that leaves the bundle, listed or not: a runtime may open the file by itself."""
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise ToolkitError(f"{path} is a link out of the bundle", fix=f"make {root} again, or copy the file in")


def _check_file(root: Path, name: str, record: FileRecord) -> None:
    fix = f"make {root} again, or restore it from a good copy"
    path = root / name
    inside = path.resolve().is_relative_to(root.resolve())
    if not inside or not path.is_file():
        raise ToolkitError(f"{path} is missing: {MANIFEST} lists it", fix=fix)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record["size_bytes"]:
            raise ToolkitError(f"{path} is damaged: {size:,} bytes, {MANIFEST} says {record['size_bytes']:,}", fix=fix)
        if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
            raise ToolkitError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}", fix=fix)
