"""The bundle: a directory that Hugging Face's own classes open, plus `bundle.json`, its manifest.

The manifest holds what the bundle is, and the SHA-256 and size of every other file. It is written in canonical JSON and
holds the SHA-256 of its own other entries: the digest, by which a child names its parent. A bundle is written to a
temporary sibling and renamed into place, so a crash leaves the old bundle or none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from toolkit.bundle.card import write_card
from toolkit.bundle.manifest import (
    CONFIG,
    FORMAT_VERSION,
    MANIFEST,
    REQUIRED,
    SEALED,
    SIGNATURE,
    WEIGHTS,
    Kind,
    Manifest,
    Metrics,
    Origin,
    ScoredSplit,
    manifest_digest,
    read_manifest,
)
from toolkit.bundle.scores import split_of
from toolkit.bundle.typed_json import read_config
from toolkit.console import echo
from toolkit.errors import ToolkitError, raise_problems
from toolkit.files import FileRecord, atomic_directory, canonical_json, file_record, open_regular, sole_writer
from toolkit.measurement.environment import tool_versions
from toolkit.tasks import Task, TaskRecord

MAX_FILES = 1000


def new_manifest(
    kind: Kind, task: TaskRecord | None, *, max_length: int, parent: str | None, made_from: dict[str, Origin],
    config: Mapping[str, object], seed: int | None, data: Mapping[str, object], precision: str = "fp32",
) -> Manifest:  # fmt: skip
    """Make the entries that every command writes; the caller adds its own, scores among them."""
    return {
        "kind": kind, "task": task, "precision": precision, "max_length": max_length, "parent": parent,
        "made_from": made_from, "config": config, "seed": seed, "data": data, "metrics": {},
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

    def __fspath__(self) -> str:
        """Give the path, so that whatever opens a path opens a bundle."""
        return str(self.path)

    @property
    def split(self) -> ScoredSplit:
        """The split that `metrics` are of: test where the data has it, else dev."""
        return split_of(self.manifest)

    @property
    def metrics(self) -> Metrics:
        """The model's metrics by name, as fractions: 0.83 is 83 %. A general student has none."""
        return self.manifest["metrics"]

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
        return read_config(self.path / CONFIG)

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


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and verify its version, and the size and SHA-256 of every file in it.

    Raises:
        ToolkitError: not a bundle, a newer format, a file that is missing or differs, a file that is not listed, a
            FIFO or device, or a link out of the folder; the file is named.
    """
    root = Path(path)
    if not root.is_dir():
        raise ToolkitError(f"{root}: no such directory", expected="a bundle made by finetune, distill or export")
    try:
        return Bundle(root, _verified_manifest(root))
    except OSError as error:
        raise ToolkitError(
            f"cannot read {error.filename or root}: {error.strerror}", expected="a bundle that this user may read"
        ) from error


@contextmanager
def write_bundle(out: str | Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a staging directory; on a clean exit add `bundle.json` and rename the directory to `out`.

    The caller saves the model and tokenizer files there, and may add entries to `manifest` until the exit. After an
    exception nothing is left behind.

    Raises:
        ToolkitError: `out` exists and is not a bundle (it is never overwritten), its parent cannot be written, or
            another process is writing it.
    """
    check_output_path(Path(out))
    with sole_writer(Path(out)), atomic_directory(Path(out)) as staging:
        yield staging
        finalize(staging, manifest)


@contextmanager
def resealed(bundle: Bundle, without: str = "") -> Iterator[tuple[Path, Manifest]]:
    """Yield a copy of a bundle's files and its manifest, to be changed; on a clean exit seal them in its place.

    The model keeps the versions that made it. A signature, which would not hold any more, goes; that is said.

    Args:
        bundle: an opened one.
        without: the name of a file that is not copied.

    Raises:
        ToolkitError: the bundle cannot be replaced, or another process is writing it.
    """
    kept = ("versions", *(bundle.manifest.keys() - SEALED))
    manifest = cast(Manifest, {name: bundle.manifest[name] for name in kept})  # type: ignore[literal-required]
    signed = (bundle.path / SIGNATURE).exists()
    with write_bundle(bundle.path, manifest) as staging:
        for name in bundle.manifest["files"].keys() - {without}:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, staging / name)
        yield staging, manifest
    if signed:
        echo(f"{bundle.path} is another bundle now, and unsigned: toolkit sign {bundle.path} --key PRIVATE_KEY")


def check_output_path(
    target: Path, marker: str = MANIFEST, what: str = "bundle", sources: Iterable[str | None] = ()
) -> None:
    """Refuse a target that cannot be written, before hours of training.

    Args:
        target: the folder to make.
        marker: the file that marks an earlier folder of the same kind, which may be replaced.
        what: the kind, in words.
        sources: what the folder is made from, as on the command line.

    Raises:
        ToolkitError: the target exists and is something else, cannot be written, or would damage a source.
    """
    for source in (Path(name).resolve() for name in sources if name and Path(name).is_dir()):
        if source.is_relative_to(target.resolve()):
            raise ToolkitError(f"--out {target} holds the source {source}, which would be lost", fix="another --out")
        if is_bundle(source) and target.resolve().is_relative_to(source):
            raise ToolkitError(
                f"--out {target} lies in the source {source}, whose files are sealed", fix="another --out"
            )
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


def finalize(staging: Path, manifest: Manifest) -> None:
    """Write a bundle's card; complete its manifest with format, versions, files and digest, and write it beside them.

    The versions of a bundle that is sealed again stay those that made its model.
    """
    manifest["format_version"] = FORMAT_VERSION
    manifest.setdefault("versions", tool_versions())
    write_card(staging, manifest)
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    manifest["files"] = {path.relative_to(staging).as_posix(): file_record(path) for path in files}
    missing = [name for name in REQUIRED if name not in manifest["files"]]
    assert not missing, f"a bundle needs {missing}"
    manifest["digest"] = manifest_digest(manifest)
    (staging / MANIFEST).write_bytes(canonical_json(manifest))


def _verified_manifest(root: Path) -> Manifest:
    _refuse_link_out(root, root / MANIFEST)
    manifest, present = read_manifest(root), _list_files(root)
    listed, fix = manifest["files"], f"make {root} again, or restore it from a good copy"
    if missing := sorted(listed.keys() - present):
        raise ToolkitError(f"{root / missing[0]} is missing: {MANIFEST} lists it", fix=fix)
    unlisted = sorted(present - {MANIFEST, SIGNATURE} - listed.keys())
    raise_problems(
        unlisted, subject=f"{root} holds files that its {MANIFEST} does not list", fix="move them out of the bundle"
    )
    for name, record in listed.items():
        _check_file(root / name, record, fix)
    read_config(root / CONFIG)
    return manifest


def _list_files(root: Path) -> set[str]:
    """List the files below a bundle by their paths in it; refuse links out, FIFOs and devices among them."""
    names, entries, folders = set(), 0, [root]
    while folders:
        for path in folders.pop().iterdir():
            entries += 1
            if entries > MAX_FILES:
                raise ToolkitError(f"{root} holds more than {MAX_FILES} files", fix=f"make {root} again")
            _refuse_link_out(root, path)
            if path.is_dir():
                if not path.is_symlink() and os.access(path, os.R_OK):  # not a volume's lost+found
                    folders.append(path)
                continue
            if not path.is_file():
                raise ToolkitError(f"{path} is not a regular file", fix=f"make {root} again, or move it away")
            names.add(path.relative_to(root).as_posix())
    return names


def _refuse_link_out(root: Path, path: Path) -> None:
    """Refuse a link that leaves the bundle, listed or not: a runtime may open the file by itself."""
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise ToolkitError(f"{path} is a link out of the bundle", fix=f"make {root} again, or copy the file in")


def _check_file(path: Path, record: FileRecord, fix: str) -> None:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record["size_bytes"]:
            raise ToolkitError(f"{path} is damaged: {size:,} bytes, {MANIFEST} says {record['size_bytes']:,}", fix=fix)
        if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
            raise ToolkitError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}", fix=fix)
