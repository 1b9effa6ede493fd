"""A bundle is whole or it is refused: any changed byte, any missing file, any crash while writing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.bundle.format import (
    FORMAT_VERSION,
    MANIFEST,
    Bundle,
    Manifest,
    check_output_path,
    is_bundle,
    manifest_digest,
    new_manifest,
    open_bundle,
    write_bundle,
)
from toolkit.errors import ToolkitError
from toolkit.files import canonical_json
from toolkit.tasks import Task

TASK = Task("auto", ("no", "yes"), metrics=("accuracy", "f1"))
FILES = {
    "config.json": b'{"pad_token_id": 0}',
    "tokenizer.json": b"{}",
    "model.onnx": b"graph" * 40,
    "model.onnx.data": b"weights" * 90,
    "extra/vocab.txt": b"[PAD]\nthe\n",
}


def manifest() -> Manifest:
    return new_manifest(
        "onnx", TASK.to_dict(), precision="int8", max_length=32, parent=None, made_from={}, config={}, seed=0, data={}
    )


def make(out: Path, files: dict[str, bytes] = FILES) -> Path:
    with write_bundle(out, manifest()) as staging:
        for name, content in files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
    return out


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make(tmp_path / "b")


def rewrite(bundle: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change the manifest as a forger would: canonical again, with a matching digest."""
    stored = json.loads((bundle / MANIFEST).read_bytes())
    change(stored)
    stored["digest"] = manifest_digest(stored)
    (bundle / MANIFEST).write_bytes(canonical_json(stored))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_is_read(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert (opened.kind, opened.precision, opened.max_length) == ("onnx", "int8", 32)
    assert opened.task.labels == ("no", "yes")
    assert opened.task.max_length == 32
    assert opened.config == {"pad_token_id": 0}
    assert opened.weights == bundle / "model.onnx"
    assert opened.weight_bytes == 40 * 5 + 90 * 7  # external data counts, the tokenizer does not
    assert opened.manifest["format_version"] == FORMAT_VERSION
    assert opened.manifest["versions"]["tinybert-toolkit"]
    assert is_bundle(bundle)
    assert not is_bundle(bundle.parent)


def test_a_manifest_keeps_what_a_command_adds(tmp_path: Path) -> None:
    """Entries that every command writes, those of a student, and those that `write_bundle` adds."""
    written = new_manifest(
        "student", TASK.to_dict(), max_length=32, parent="abc", config={"lr": 1e-5}, seed=7, data={"train": "def"},
        made_from={"teacher": {"kind": "model", "name": "bert-base-uncased"}},
    )  # fmt: skip
    with write_bundle(tmp_path / "b", written) as staging:
        for name, content in FILES.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
        written["layer_map"] = [3, 6]
    stored = open_bundle(tmp_path / "b").manifest
    assert set(stored) == {
        "config", "data", "digest", "files", "format_version", "kind", "layer_map", "made_from", "max_length",
        "metrics", "parent", "precision", "seed", "task", "versions",
    }  # fmt: skip
    assert (stored["precision"], stored["metrics"], stored["parent"], stored["seed"]) == ("fp32", {}, "abc", 7)
    assert (stored["config"], stored["layer_map"]) == ({"lr": 1e-5}, [3, 6])


def test_a_general_student_has_no_task(tmp_path: Path) -> None:
    general = new_manifest("general", None, max_length=128, parent=None, made_from={}, config={}, seed=0, data={})
    with write_bundle(tmp_path / "b", general) as staging:
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (staging / name).write_bytes(b"{}")
    bundle = open_bundle(tmp_path / "b")
    assert bundle.kind == "general"
    with pytest.raises(ToolkitError, match="it has not learnt a task yet") as caught:
        bundle.task  # noqa: B018
    assert f"--init {bundle.path}" in caught.value.fix


def test_hashes_are_those_of_the_bytes(bundle: Path) -> None:
    stored = json.loads((bundle / MANIFEST).read_bytes())["files"]
    expected = {
        name: {"size_bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        for name, raw in {**FILES, "README.md": (bundle / "README.md").read_bytes()}.items()
    }
    assert stored == expected


def test_equal_content_gives_an_equal_digest_and_changed_content_another(tmp_path: Path) -> None:
    first, same = open_bundle(make(tmp_path / "1")), open_bundle(make(tmp_path / "2"))
    other = open_bundle(make(tmp_path / "3", FILES | {"model.onnx": b"other"}))
    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_every_flipped_bit_is_found_and_its_file_named(bundle: Path, name: str) -> None:
    path = bundle / name
    whole = path.read_bytes()
    random = np.random.default_rng(len(name))
    positions = {0, len(whole) - 1, *random.integers(0, len(whole), 20).tolist()}
    for position in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(flipped)
        with pytest.raises(ToolkitError) as caught:
            open_bundle(bundle)
        assert str(path) in str(caught.value) or "bundle format" in str(caught.value)
        assert caught.value.fix
    path.write_bytes(whole)
    open_bundle(bundle)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(raw=st.binary(max_size=80) | st.text(alphabet='{}[]":,0a', max_size=30).map(str.encode))
def test_any_other_manifest_is_refused(bundle: Path, raw: bytes) -> None:
    (bundle / MANIFEST).write_bytes(raw)
    with pytest.raises(ToolkitError, match=r"bundle\.json is damaged"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_missing_cut_and_grown_files_are_named(bundle: Path, name: str) -> None:
    path, whole = bundle / name, FILES[name]
    path.unlink()
    with pytest.raises(ToolkitError, match=f"{name} is missing"):
        open_bundle(bundle)
    for changed in (whole[:-1], whole + b"x", b""):
        path.write_bytes(changed)
        with pytest.raises(ToolkitError, match=f"{name} is damaged: {len(changed):,} bytes"):
            open_bundle(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "extra/../../secret"])
def test_a_manifest_cannot_reach_outside(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_bytes(b"secret")
    entry = {"size_bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    rewrite(bundle, lambda stored: stored["files"].update({name: entry}))  # type: ignore[attr-defined]
    with pytest.raises(ToolkitError, match=f"'{name}' is no file's path in the bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "extra/vocab.txt", MANIFEST, "unlisted", "extra"])
def test_a_link_cannot_reach_outside(bundle: Path, name: str) -> None:
    outside = bundle.parent / "outside"
    if (bundle / name).exists():
        shutil.move(bundle / name, outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(ToolkitError, match=f"{name} is a link out of the bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [*FILES, MANIFEST, "unlisted"])
def test_a_fifo_is_refused_and_keeps_nobody_waiting(bundle: Path, name: str) -> None:
    (bundle / name).unlink(missing_ok=True)
    os.mkfifo(bundle / name)
    with pytest.raises(ToolkitError, match=f"{name} is not a regular file"):
        open_bundle(bundle)


def test_a_sparse_manifest_is_refused_before_it_is_read(bundle: Path) -> None:
    with (bundle / MANIFEST).open("wb") as file:
        file.truncate(10**13)
    with pytest.raises(ToolkitError, match=r"bundle\.json has 10,000,000,000,000 bytes"):
        open_bundle(bundle)


def test_a_link_to_a_listed_file_is_a_file_like_any_other(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b", FILES | {"extra/kept": FILES["model.onnx"]})
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to("extra/kept")
    assert open_bundle(bundle).weights.read_bytes() == FILES["model.onnx"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_what_every_reader_opens_must_be_listed(bundle: Path, name: str) -> None:
    rewrite(bundle, lambda stored: stored["files"].pop(name))  # type: ignore[attr-defined]
    for action in (lambda: None, (bundle / name).unlink):
        action()
        with pytest.raises(ToolkitError, match=f"files: {name} is not listed"):
            open_bundle(bundle)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "extra/merges.txt", "new/deep/tokenizer.json", ".hidden"])
def test_a_file_that_is_not_listed_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    open_bundle(bundle)  # an empty folder holds nothing, such as a volume's lost+found
    (bundle / name).write_text("{}")
    with pytest.raises(ToolkitError, match=rf"files that its bundle\.json does not list: 1 problem\n  - {name}\n"):
        open_bundle(bundle)


def test_a_newer_format_says_upgrade(bundle: Path) -> None:
    rewrite(bundle, lambda stored: stored.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(ToolkitError, match=f"bundle format {FORMAT_VERSION + 1}; this toolkit reads up to") as caught:
        open_bundle(bundle)
    assert "upgrade" in caught.value.fix


def test_a_bundle_without_weights_is_refused(bundle: Path) -> None:
    rewrite(bundle, lambda stored: [stored["files"].pop(name) for name in ("model.onnx", "model.onnx.data")])  # type: ignore[attr-defined]
    with pytest.raises(ToolkitError, match=r"files: no weights, model.onnx or "):
        open_bundle(bundle)


def test_no_directory_and_no_bundle_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="no such directory"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(ToolkitError, match=r"is not a bundle: it has no bundle\.json"):
        open_bundle(tmp_path)


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_bundle(tmp_path / "out", manifest()) as staging:
        (staging / "config.json").write_bytes(b"{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_bundle(bundle: Path) -> None:
    before = snapshot(bundle)
    with pytest.raises(RuntimeError, match="full"), write_bundle(bundle, manifest()) as staging:
        (staging / "config.json").write_bytes(b"{}")
        raise RuntimeError("disk full")
    assert snapshot(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


@pytest.mark.parametrize("old", [True, False])
def test_a_killed_process_leaves_the_old_bundle_or_none(tmp_path: Path, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        make(out)
    program = (
        "import os, sys\n"
        "from toolkit.bundle.format import write_bundle\n"
        "with write_bundle(sys.argv[1], {}) as staging:\n"
        "    (staging / 'config.json').write_bytes(b'{}')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(out)], check=False).returncode == 9
    if old:
        assert open_bundle(out).precision == "int8"
    else:
        assert not out.exists()
    make(out, FILES | {"model.onnx": b"new"})  # what the crash left beside it is not in the way
    assert open_bundle(out).weights.read_bytes() == b"new"


def test_a_bundle_that_lacks_its_tokenizer_is_never_sealed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"tokenizer\.json"):
        make(tmp_path / "out", {"config.json": b"{}", "model.onnx": b"x"})
    assert list(tmp_path.iterdir()) == []


def test_an_old_bundle_is_replaced_as_a_whole(bundle: Path) -> None:
    make(bundle, {name: raw for name, raw in FILES.items() if name != "model.onnx.data"})
    assert not (bundle / "model.onnx.data").exists()
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    assert isinstance(open_bundle(bundle), Bundle)


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("years of work")
    before = snapshot(thesis)
    with pytest.raises(ToolkitError, match="is not a bundle, so it is not overwritten"):
        make(thesis)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(ToolkitError, match="is not a bundle, so it is not overwritten"):
        make(tmp_path / "file")
    assert snapshot(thesis) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "thesis"]


def test_an_empty_folder_and_missing_parents_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    open_bundle(make(tmp_path / "empty"))
    open_bundle(make(tmp_path / "a" / "b" / "c"))


def test_an_output_that_would_damage_its_source_is_refused(bundle: Path, tmp_path: Path) -> None:
    (plain := tmp_path / "plain").mkdir()
    for out, problem in ((bundle, "holds the source"), (bundle / "deep" / "out", "lies in the source")):
        with pytest.raises(ToolkitError, match=problem):
            check_output_path(out, sources=[str(bundle)])
    assert not (bundle / "deep").exists()
    with pytest.raises(ToolkitError, match="holds the source"):
        check_output_path(plain, sources=["bert-base-uncased", None, str(plain / ".." / "plain")])
    check_output_path(plain / "out", sources=[str(plain)])  # no bundle: nothing in it is sealed
    check_output_path(tmp_path / "bb", sources=[str(bundle)])


def test_two_writers_of_a_bundle_at_once(bundle: Path) -> None:
    with write_bundle(bundle, manifest()) as staging:
        with pytest.raises(ToolkitError, match="another process is writing"):
            make(bundle)
        for name, content in FILES.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
    open_bundle(bundle)
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_parent_that_cannot_be_made_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ToolkitError, match="cannot create"):
        check_output_path(tmp_path / "file" / "out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write in")
def test_a_parent_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ToolkitError, match=r"cannot write in /proc/self|/proc/self is not writable"):
        make(Path("/proc/self/out"))


@pytest.mark.parametrize("out", [".", ".."])
def test_the_working_directory_itself_is_refused(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolkitError, match="cannot be replaced as a whole"):
        make(Path(out))


def test_others_may_read_it(bundle: Path) -> None:
    assert os.stat(bundle).st_mode & 0o777 == 0o755


def test_hugging_face_opens_a_bundle(tiny_student: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_student)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert AutoTokenizer.from_pretrained(tiny_student)("a good film")["input_ids"][0] == 2
    assert open_bundle(tiny_student).weights.name == "model.safetensors"
