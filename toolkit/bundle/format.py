"""The bundle: the one thing that flows between commands.

A bundle is a directory that Hugging Face's own classes open too, plus `bundle.json`, which says what it is and
holds the SHA-256 and size of every other file. It is written to a temporary sibling and renamed into place, so a
crash leaves the old bundle or none. `bundle.json` is written in one canonical form and holds the SHA-256 of its own
other entries: the bundle's digest, by which a child names its parent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.files import canonical_json, file_record, replace
from toolkit.measurement.environment import tool_versions
from toolkit.tasks import Task

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
WEIGHTS = ("model.onnx", "1/model.onnx", "model.safetensors")  # in 1/ where the bundle is laid out for Triton
KINDS = ("teacher", "student", "general", "onnx")
REQUIRED = ("config.json", "tokenizer.json")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `manifest` is `bundle.json` as it stands on disk; the properties read it."""

    path: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and through its file list of everything in the bundle."""
        return str(self.manifest["digest"])

    @property
    def kind(self) -> str:
        """One of KINDS; a general bundle is not task-specific yet."""
        return str(self.manifest["kind"])

    @property
    def precision(self) -> str:
        """Of the weights: fp32, fp16 or int8."""
        return str(self.manifest["precision"])

    @property
    def max_length(self) -> int:
        """Tokens at which inputs are truncated, special ones included."""
        return int(self.manifest["max_length"])

    @property
    def task(self) -> Task:
        """The task whose labels the logits stand for.

        Raises:
            ToolkitError: a general student, which has learnt none yet.
        """
        if self.manifest["task"] is None:
            raise ToolkitError(
                f"{self.path} is a general student: it has not learnt a task yet",
                fix=f"toolkit distill --teacher DIR --task TASK --init {self.path} --out DIR",
            )
        return Task.from_dict(self.manifest["task"], self.max_length)

    @property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        return dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))

    @property
    def weights(self) -> Path:
        """The weight file: one of WEIGHTS."""
        return next(self.path / name for name in WEIGHTS if name in self.manifest["files"])

    @property
    def weight_bytes(self) -> int:
        """Bytes of every file the model itself needs, external ONNX data included (10^6 bytes are one MB)."""
        return sum(
            int(entry["size_bytes"]) for name, entry in self.manifest["files"].items() if name.startswith(WEIGHTS)
        )


def is_bundle(path: Path) -> bool:
    """Whether a directory claims to be a bundle; nothing is verified."""
    return (path / MANIFEST).is_file()


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify its version, and the size and SHA-256 of every file in it.

    Raises:
        ToolkitError: not a bundle, a newer format, a file that is missing or differs, or a link out of the folder,
            listed or not; the file is named.
    """
    root = Path(path)
    raw = _read_manifest(root)
    for path in root.rglob("*"):
        _refuse_link_out(root, path)
    manifest = _parse_manifest(root, raw)
    for name, entry in manifest["files"].items():
        _check_file(root, name, entry)
    return Bundle(root, manifest)


@contextmanager
def write_bundle(out: str | Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield a staging directory; on a clean exit seal it with `bundle.json` and rename it to `out`.

    The caller saves the model and tokenizer files there, and may add entries to `manifest` until the exit.
    `format_version`, `versions` and `files` are filled in here. On an exception nothing is left behind.

    Raises:
        ToolkitError: `out` exists and is not a bundle (it is never overwritten), or its parent cannot be written.
    """
    target = Path(out)
    check_output_path(target)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise ToolkitError(f"cannot write in {target.parent}: {error.strerror}", fix="another --out") from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp's 0700 would lock out the user a server runs as
        finalize(staging, manifest)
        replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output_path(target: Path, marker: str = MANIFEST, what: str = "bundle") -> None:
    """Refuse early, before hours of training, a target that could not be written at the end.

    Args:
        target: the folder to make.
        marker: the file by which an earlier one of its kind, which may be replaced, is known.
        what: its kind, in words.

    Raises:
        ToolkitError: it exists and is something else, or cannot be written.
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


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest's canonical form without its `digest` entry."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(canonical_json(rest)).hexdigest()


def finalize(staging: Path, manifest: dict[str, Any]) -> None:
    """Complete a manifest with versions, files and digest, and write it and all files through to the disk."""
    manifest["format_version"] = FORMAT_VERSION
    manifest["versions"] = tool_versions()
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    manifest["files"] = {path.relative_to(staging).as_posix(): file_record(path) for path in files}
    missing = [name for name in REQUIRED if name not in manifest["files"]]
    assert not missing, f"a bundle needs {missing}"
    manifest["digest"] = manifest_digest(manifest)
    (staging / MANIFEST).write_bytes(canonical_json(manifest))
    for path in [*files, staging / MANIFEST]:  # renamed names must never point at unwritten bytes
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _read_manifest(root: Path) -> bytes:
    if not root.is_dir():
        raise ToolkitError(f"{root}: no such directory", expected="a bundle made by finetune, distill or export")
    _refuse_link_out(root, root / MANIFEST)
    try:
        return (root / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise ToolkitError(
            f"{root} is not a bundle: it has no {MANIFEST}",
            expected="a directory made by toolkit finetune, distill or export",
        ) from None


def _parse_manifest(root: Path, raw: bytes) -> dict[str, Any]:
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
    return manifest


def _refuse_link_out(root: Path, path: Path) -> None:
    """What a runtime opens by itself, listed or not, it would open through a link too."""
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise ToolkitError(f"{path} is a link out of the bundle", fix=f"make {root} again, or copy the file in")


def _check_file(root: Path, name: str, entry: dict[str, Any]) -> None:
    fix = f"make {root} again, or restore it from a good copy"
    path = root / name
    inside = path.resolve().is_relative_to(root.resolve())
    if not inside or not path.is_file():
        raise ToolkitError(f"{path} is missing: {MANIFEST} lists it", fix=fix)
    size = path.stat().st_size
    if size != entry["size_bytes"]:
        raise ToolkitError(f"{path} is damaged: {size:,} bytes, {MANIFEST} says {entry['size_bytes']:,}", fix=fix)
    if file_record(path)["sha256"] != entry["sha256"]:
        raise ToolkitError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}", fix=fix)
