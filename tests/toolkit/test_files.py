"""Hashes against known digests; atomic writes leave the old file or folder or the new one, whatever stops them."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import files
from toolkit.errors import ToolkitError
from toolkit.files import (
    COMMAND,
    atomic_directory,
    atomic_file,
    canonical_json,
    check_same_command,
    file_record,
    flush_directory,
    open_regular,
    read_regular,
    sole_writer,
)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes of the files that were written through to the disk."""
    inodes: list[int] = []
    monkeypatch.setattr("os.fsync", lambda handle: inodes.append(os.fstat(handle).st_ino))
    return inodes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_known_by_its_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, appendix B.1
    assert file_record(tmp_path / "a") == {"size_bytes": 3, "sha256": digest}
    (tmp_path / "b").write_bytes(bytes(10**6))
    assert file_record(tmp_path / "b")["sha256"] == hashlib.sha256(bytes(10**6)).hexdigest()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path in (tmp_path / "fifo", tmp_path / "link", Path("/dev/zero"), tmp_path):
        for read in (open_regular, file_record, lambda path: read_regular(path, 10)):
            with pytest.raises(ToolkitError, match=f"{path} is not a regular file"):
                read(path)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", 3) == b"abc"
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**13)
    for name, size in (("a", "3"), ("sparse", "10,000,000,000,000")):
        with pytest.raises(ToolkitError, match=rf"{name} has {size} bytes\nexpected: at most 2"):
            read_regular(tmp_path / name, 2)
    # files of /proc say that they are empty
    with pytest.raises(ToolkitError, match="expected: at most 2"):
        read_regular(Path("/proc/self/status"), 2)


def test_equal_values_have_equal_json() -> None:
    assert canonical_json({"b": [1, "ß"], "a": None}) == canonical_json({"a": None, "b": [1, "ß"]})
    assert canonical_json({"b": 1, "a": "ß"}) == '{\n  "a": "ß",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_file_is_replaced_whole_and_flushed_before(tmp_path: Path, flushed: list[int]) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    with atomic_file(out) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert out.read_text() == "old"
        assert flushed == []
    assert out.read_text() == "new"
    assert flushed == [out.stat().st_ino]
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out"
    out.write_text("old")
    with pytest.raises(error), atomic_file(out) as partial:
        partial.write_text("half")
        raise error
    assert out.read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_file_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="cannot write in") as caught, atomic_file(tmp_path / "none" / "out"):
        pass
    assert caught.value.fix == "another --out"
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(ToolkitError, match=r"cannot write .*folder") as caught,
        atomic_file(tmp_path / "folder", fix="elsewhere") as partial,
    ):
        partial.write_text("new")
    assert caught.value.fix == "elsewhere"
    assert names(tmp_path) == ["folder"]


def test_a_folder_is_replaced_whole_and_flushed_before(tmp_path: Path, flushed: list[int]) -> None:
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "old").write_text("old")
    with atomic_directory(out) as staging:
        (staging / "deep").mkdir()
        for name in ("a", "deep/b"):
            (staging / name).write_text(name)
        assert names(out) == ["deep", "old"]
    assert names(out) == ["a", "deep"]
    assert sorted(flushed) == sorted((out / name).stat().st_ino for name in ("a", "deep/b"))
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("old", [True, False])
def test_an_exception_leaves_the_old_folder_or_none(tmp_path: Path, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        out.mkdir()
        (out / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(out) as staging:
        (staging / "new").write_text("new")
        raise KeyboardInterrupt
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == (["out", "out/old"] if old else [])


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    out.mkdir()
    (out / "old").write_text("old")

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"), atomic_directory(out) as staging:
        (staging / "new").write_text("new")
    assert [path.name for path in out.iterdir()] == ["old"]
    assert names(tmp_path) == ["out"]


def test_a_folder_around_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match=r"cannot write in .*none"), atomic_directory(tmp_path / "none" / "out"):
        pass


@pytest.mark.parametrize("writer", ["atomic_file", "atomic_directory"])
def test_a_killed_process_leaves_the_old_one(tmp_path: Path, writer: str) -> None:
    out = tmp_path / "out"
    with getattr(files, writer)(out) as partial:
        target = partial if writer == "atomic_file" else partial / "name"
        target.write_text("old")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom toolkit.files import *\n"
        f"with {writer}(Path(sys.argv[1])) as partial:\n"
        "    (partial if partial.is_file() else partial / 'name').write_text('half')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(out)], check=False).returncode == 9
    assert (out if writer == "atomic_file" else out / "name").read_text() == "old"


def test_every_file_of_a_folder_is_flushed(tmp_path: Path, flushed: list[int]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3"):
        (tmp_path / name).write_text(name)
    flush_directory(tmp_path)
    assert sorted(flushed) == sorted((tmp_path / name).stat().st_ino for name in ("1", "a/2", "a/b/3"))


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with sole_writer(out):
        with (
            pytest.raises(ToolkitError, match=r"another process is writing .*out\ntry: another --out"),
            sole_writer(out),
        ):
            pass
        with sole_writer(tmp_path / "other"):
            pass
    with sole_writer(out):
        pass
    assert names(tmp_path) == []
    with pytest.raises(ToolkitError, match=r"cannot write in .*none"), sole_writer(tmp_path / "none" / "out"):
        pass


@pytest.mark.parametrize("writer", ["atomic_file", "atomic_directory"])
def test_leftovers_of_a_killed_writer_are_removed_and_its_lock_is_free(tmp_path: Path, writer: str) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom toolkit.files import *\nout = Path(sys.argv[1])\n"
        f"with sole_writer(out), {writer}(out):\n    os.kill(os.getpid(), 9)\n"
    )
    others = [".out.b.abcdefgh.partial", ".out.partial", ".other.abcdefgh.partial"]  # of out.b, of training, of other
    for name in others:
        (tmp_path / name).mkdir()
    for name in ("out", "out[1]"):
        out = tmp_path / name
        assert subprocess.run([sys.executable, "-c", program, str(out)], check=False).returncode == -9
        assert len(names(tmp_path)) == len(others) + 2  # the lock and the leftover
        with sole_writer(out):
            assert names(tmp_path) == sorted([*others, f".{name}.lock"])
        assert names(tmp_path) == sorted(others)


def test_a_folder_that_a_killed_writer_was_replacing_comes_back(tmp_path: Path) -> None:
    out, old = tmp_path / "out", tmp_path / ".out.replaced-123"
    old.mkdir()
    (old / "a").write_text("old")
    with sole_writer(out):
        assert (out / "a").read_text() == "old"
    old.mkdir()
    with sole_writer(out):
        assert names(tmp_path) == [".out.lock", "out"]


def test_unfinished_work_of_another_command_is_named_by_what_differs(tmp_path: Path) -> None:
    words = {"holds": "scores", "expected": "the same options"}
    check_same_command(tmp_path, {"a": 1}, **words)  # no command there
    (tmp_path / COMMAND).write_bytes(canonical_json({"a": 1, "model": "f" * 64}))
    check_same_command(tmp_path, {"a": 1, "model": "f" * 64}, **words)
    with pytest.raises(ToolkitError, match="holds scores of another command") as caught:
        check_same_command(tmp_path, {"a": 2, "model": "e" * 64, "b": 3}, **words)
    assert caught.value.problem.splitlines()[1:] == [
        "  - a: 1 there, 2 here", "  - b: None there, 3 here", "  - model: ffffffffffff... there, eeeeeeeeeeee... here",
    ]  # fmt: skip
