"""What is declared is what is needed: extras, pins, the wheel, and a base install without any of the heavy packages."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import toolkit
from tests.support.paths import ROOT
from toolkit.errors import EXTRAS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = canonicalize_name(PROJECT["name"])
PACKAGES = ("toolkit", "export", "serve")


def declared(extra: str | None) -> dict[str, Requirement]:
    """Distributions that the base install (None) or an extra brings, with other extras of ours resolved."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        if canonicalize_name(requirement.name) == OWN:
            for other in requirement.extras:
                found |= declared(other)
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


CONSTRAINTS = {"constraints.txt": ("dev", "optimum"), "constraints-transformers5.txt": ("dev",)}  # extras of each


def pins(file: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


@cache
def providers() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def distributions(module: str) -> set[str]:
    return {canonicalize_name(name) for name in providers().get(module, [])}


@pytest.mark.parametrize(("module", "extra"), EXTRAS.items())
def test_each_extra_brings_what_the_error_promises(module: str, extra: str) -> None:
    assert distributions(module) & declared(extra).keys()


def test_every_import_is_declared() -> None:
    known = declared(None) | declared("all") | declared("optimum")
    undeclared = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES):
                if not distributions(top) & known.keys():
                    undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    # starlette, pydantic and pydantic_core are parts of fastapi's own interface
    assert {
        line for line in undeclared if line.split(": ")[1] not in {"starlette", "pydantic", "pydantic_core"}
    } == set()


@pytest.mark.parametrize("file", CONSTRAINTS)
def test_pins_satisfy_the_declared_ranges(file: str) -> None:
    pinned = pins(file)
    for extra in (None, *CONSTRAINTS[file]):
        for name, requirement in declared(extra).items():
            assert name in pinned, f"{name} is not in {file}"
            assert requirement.specifier.contains(pinned[name]), f"{requirement} does not allow {pinned[name]}"


def test_the_pins_differ_by_transformers_alone() -> None:
    four, five = map(pins, CONSTRAINTS)
    assert four["transformers"].startswith("4.57.")
    assert five["transformers"].startswith("5.")
    tied = {"transformers", "tokenizers", "huggingface-hub", "optimum", "optimum-onnx"}
    assert {name for name in four | five if four.get(name) != five.get(name)} == tied


def test_the_range_check_can_fail() -> None:
    assert not Requirement("transformers>=4.48,<6").specifier.contains("6.0.0")


@pytest.mark.parametrize("file", CONSTRAINTS)
def test_pins_name_releases_that_every_index_has(file: str) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []
    assert pins(file)["torch"] == "2.13.0"


def test_optimum_brings_the_onnx_exporter() -> None:
    lines = importlib.metadata.requires("optimum") or []
    chosen = [Requirement(line) for line in lines if "optimum-onnx" in line]
    assert any(line.marker is None or line.marker.evaluate({"extra": "onnxruntime"}) for line in chosen)
    assert "onnxruntime" in declared("optimum")["optimum"].extras


def test_no_other_extra_keeps_transformers_5_out() -> None:
    for extra in set(PROJECT["optional-dependencies"]) - {"optimum"}:
        needed = declared(extra)
        assert "optimum" not in needed
        assert "transformers" not in needed or needed["transformers"].specifier.contains("5.24.0")


def test_versions_agree() -> None:
    assert importlib.metadata.version(PROJECT["name"]) == toolkit.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == toolkit.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, timeout=120)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    ours = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == ours
    data = {"toolkit/reports/template.html", "serve/api/playground.html", *(f"{name}/py.typed" for name in PACKAGES)}
    assert data <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"tinybert_toolkit-{toolkit.__version__}.dist-info"}


def test_the_wheel_s_command_is_toolkit(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "toolkit = toolkit.cli.main:main" in archive.read(entry).decode()


def closure(names: list[str]) -> set[str]:
    """Distributions that installing `names` brings, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` alone would give: our wheel, the base dependencies and what these need."""
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    for name in closure(list(declared(None))):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution.locate_file(top)))
            if not (site / top).exists():
                (site / top).symlink_to(source)
    return site


def run_base(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"sys.path.insert(0, {str(base)!r}); sys.argv[0] = 'toolkit'"
    program = f"import sys; {path}; from toolkit.cli.main import main; main()"
    command = [sys.executable, "-I", "-S", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_base_install_is_light(base: Path) -> None:
    present = {path.name for path in base.iterdir()}
    assert {"toolkit", "numpy", "tokenizers", "typer", "rich"} <= present
    assert not present & {"torch", "transformers", "onnx", "onnxruntime", "datasets", "sklearn", "scipy", "fastapi"}
    done = run_base(base, "--version")
    assert (done.returncode, done.stdout) == (0, f"tinybert-toolkit {toolkit.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["finetune", "--model", "m", "--task", "sst2", "--out", "out"], "distill"),
        (["distill", "--teacher", "t", "--task", "sst2", "--out", "out"], "distill"),
        (["export", "student", "--int8", "--out", "out"], "export"),
        (["bench", "student"], "bench"),
        (["serve", "int8"], "serve"),
        (["demo"], "demo"),
    ],
)
def test_a_command_without_its_extra_says_which(base: Path, tmp_path: Path, arguments: list[str], extra: str) -> None:
    done = run_base(base, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(rf"pip install 'tinybert-toolkit\[[a-z,]*{extra}[a-z,]*\]'", done.stderr), done.stderr
