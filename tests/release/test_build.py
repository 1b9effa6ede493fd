"""The release: links of the README on a package index, and the wheel alone in a new environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path

import pytest

import toolkit
from release.build import absolute, main
from tests.support.paths import ROOT

SOURCE = "https://github.com/owner/repository"


def test_links_into_the_repository_become_absolute_or_text() -> None:
    page = "![g](docs/g.svg) [a](docs/a.md#x) [b](https://x.test/b) [c](#c) `[d](e)`"
    assert absolute(page, SOURCE, "v1") == (
        f"![g]({SOURCE}/raw/v1/docs/g.svg) [a]({SOURCE}/blob/v1/docs/a.md#x) [b](https://x.test/b) [c](#c) "
        f"`[d]({SOURCE}/blob/v1/e)`"
    )
    assert absolute(page, None, "v1") == " a [b](https://x.test/b) [c](#c) `d`"


def built(out: Path, *arguments: str) -> tuple[Path, Path]:
    """The source archive and the wheel: those in $DIST, which `make dist` has made, or new ones."""
    if not (made := os.environ.get("DIST")):
        main(["--out", str(out), *arguments])
    folder = Path(made) if made else out
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return archive, wheel


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(tmp_path_factory.mktemp("dist"), "--source", SOURCE)


@pytest.mark.slow
def test_both_files_hold_what_they_should(files: tuple[Path, Path]) -> None:
    archive, wheel = files
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "constraints.txt",
        "docs/index.md",
        "tests/conftest.py",
    } <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith((".venv", "runs", "site/"))]
    with zipfile.ZipFile(wheel) as package:
        metadata = message_from_string(
            package.read(f"tinybert_toolkit-{toolkit.__version__}.dist-info/METADATA").decode()
        )
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert "your own data" in text.lower()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


class Installed:
    """The wheel with some extras, alone in an environment of its own."""

    def __init__(self, wheel: Path, extras: str, root: Path) -> None:
        self.root, self.bin = root, root / "env" / "bin"
        venv.create(root / "env", with_pip=True)
        pip = [self.bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", f"{wheel.resolve()}[{extras}]"], check=True, timeout=1800)
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(root), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str) -> str:
        """Run a command in an empty folder, away from the repository; what it prints."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.root, env=self.environment, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self, bundle: Path) -> Iterator[str]:
        command = [self.bin / "toolkit", "serve", str(bundle), "--port", "0"]
        options = {"cwd": self.root, "env": self.environment, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **options) as process:
            assert process.stdout is not None
            address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            try:
                assert address
                yield address.group()
            finally:
                process.terminate()
            assert process.wait(60) == 0


@pytest.mark.slow
def test_the_wheel_with_serve_serves_a_bundle(files: tuple[Path, Path], tiny_onnx: Path, tmp_path: Path) -> None:
    installed = Installed(files[1], "serve", tmp_path)
    assert installed.run("toolkit", "--version") == f"tinybert-toolkit {toolkit.__version__}\n"
    assert str(tmp_path) in installed.run("python", "-c", "import toolkit; print(toolkit.__file__)")
    assert "torch" not in installed.run("python", "-m", "pip", "list", "--disable-pip-version-check")
    bundle = shutil.copytree(tiny_onnx, tmp_path / "bundle")
    shown = installed.run("toolkit", "predict", str(bundle), "a lovely film")
    assert "onnx, fp32" in installed.run("toolkit", "inspect", str(bundle))
    with installed.serving(bundle) as address:
        request = urllib.request.Request(
            f"{address}/predict", b'{"inputs": "a lovely film"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            (best, other) = json.load(answer)
        assert f"{best['label']} " in shown.replace("│", " ")
        assert f"{best['score']:.4f}" in shown
        assert {best["label"], other["label"]} == {"negative", "positive"}
        with urllib.request.urlopen(f"{address}/", timeout=30) as answer:
            assert b"<html" in answer.read()


@pytest.mark.slow
def test_the_wheel_with_all_extras_goes_from_data_to_int8(
    files: tuple[Path, Path], tiny_teacher: Path, data_dir: Path, tmp_path: Path
) -> None:
    """Every command runs once, on tiny models; `make demo` is the whole way at full size."""
    installed = Installed(files[1], "demo", tmp_path)
    data = ["--task", "auto", "--data", str(data_dir)]
    student = ["--student", "2/16/32/4", "--intermediate-epochs", "1", "--prediction-epochs", "1"]
    run = installed.run
    run("toolkit", "finetune", "--model", str(tiny_teacher), *data, "--epochs", "1", "--out", "teacher")
    run("toolkit", "augment", *data, "--copies", "1", "--out", "more.parquet")
    run("toolkit", "distill", "--teacher", str(tiny_teacher), *data, *student, "--out", "student")
    run("toolkit", "export", "student", "--int8", "--data", str(data_dir), "--max-drop", "50", "--out", "int8")
    assert "accuracy" in run("toolkit", "evaluate", "int8", "--data", str(data_dir))
    run("toolkit", "score", "int8", "--input", str(data_dir / "dev.csv"), "--out", "scored.csv")
    assert (tmp_path / "scored.csv").read_text(encoding="utf-8").count("\n") == 97
    assert "int8" in run("toolkit", "inspect", "int8")
    for command in ("bench", "calibrate", "demo", "serve"):
        assert "Usage" in run("toolkit", command, "--help")


def test_the_citation_has_this_version() -> None:
    assert f"version: {toolkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
