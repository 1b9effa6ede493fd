"""The tree of tests mirrors the tree of modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("toolkit", "export", "serve")
# Modules without a test file of their own, and the reason.
EXCEPTIONS = {
    "toolkit/__main__.py": "runs toolkit/cli/main.py, which tests/toolkit/cli tests through `python -m toolkit`",
}


def file_of(module: Path) -> Path:
    """tests/<package>/<room>/test_<module>.py; `__main__` is test_main."""
    return Path("tests") / module.parent / f"test_{module.stem.strip('_')}.py"


def modules(root: Path) -> list[Path]:
    """Product modules, relative to the repository."""
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    return sorted(path.relative_to(root) for path in paths if path.name != "__init__.py")


def untested(root: Path) -> list[str]:
    """Modules whose test file is missing or holds no test."""
    files = {module.as_posix(): root / file_of(module) for module in modules(root)}
    return [name for name, file in files.items() if not file.is_file() or "def test_" not in file.read_text("utf-8")]


def test_every_module_has_a_test_file_of_its_name() -> None:
    assert untested(ROOT) == sorted(EXCEPTIONS)


def test_exceptions_are_few() -> None:
    assert len(EXCEPTIONS) < 10


@pytest.mark.parametrize("content", [None, "", "def helper() -> None: ...\n"])
def test_a_missing_or_empty_test_file_is_noticed(tmp_path: Path, content: str | None) -> None:
    for module in ("toolkit/data/rows.py", "toolkit/data/__init__.py"):
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).touch()
    if content is not None:
        (tmp_path / "tests/toolkit/data").mkdir(parents=True)
        (tmp_path / "tests/toolkit/data/test_rows.py").write_text(content)
    assert untested(tmp_path) == ["toolkit/data/rows.py"]


def test_a_test_file_of_the_same_name_is_accepted(tmp_path: Path) -> None:
    for path in (tmp_path / "serve/app.py", tmp_path / "tests/serve/test_app.py"):
        path.parent.mkdir(parents=True)
        path.write_text("def test_it() -> None: ...\n")
    assert untested(tmp_path) == []
