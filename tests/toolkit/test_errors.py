"""Errors say what was given, what was expected and what to do; a missing package names its extra."""

from __future__ import annotations

import ast
import errno
import tempfile

import pytest

from tests.support.paths import ROOT
from toolkit.errors import EXTRAS, GateError, ToolkitError, raise_problems, require_packages, resource_error


def test_the_text_holds_problem_expectation_and_next_step() -> None:
    error = ToolkitError("given a", expected="b", fix="do c")
    assert str(error) == "given a\nexpected: b\ntry: do c"
    assert str(ToolkitError("given a")) == "given a"
    assert str(ToolkitError("given a", fix="do c")) == "given a\ntry: do c"


def test_exit_codes() -> None:
    assert ToolkitError("x").exit_code == 2
    assert GateError("x").exit_code == 1
    assert issubclass(GateError, ToolkitError)


def test_problems_come_all_at_once() -> None:
    with pytest.raises(ToolkitError) as caught:
        raise_problems((p for p in ["one", "two"]), subject="it", fix="mend")
    assert str(caught.value) == "it: 2 problems\n  - one\n  - two\ntry: mend"
    with pytest.raises(ToolkitError, match="it: 1 problem\n  - one"):
        raise_problems(["one"], subject="it")


def test_no_problems_no_error() -> None:
    raise_problems([], subject="it")


def test_require_names_the_package_and_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "no_such_package_a", "serve")
    monkeypatch.setitem(EXTRAS, "no_such_package_b", "distill")
    with pytest.raises(ToolkitError) as caught:
        require_packages("json", "no_such_package_a", "no_such_package_b", purpose="serving")
    assert caught.value.problem == "serving needs no_such_package_a, no_such_package_b, which this Python does not have"
    assert caught.value.fix == "pip install 'tinybert-toolkit[distill,serve]'"
    with pytest.raises(ToolkitError) as caught:
        require_packages("no_such_package_a", purpose="all of it", extra="demo")
    assert caught.value.fix == "pip install 'tinybert-toolkit[demo]'"


def test_require_is_silent_when_all_is_there() -> None:
    require_packages("json", "numpy", purpose="anything")


def test_every_package_required_anywhere_has_an_extra() -> None:
    required = set()
    for package in ("toolkit", "export", "serve"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "require_packages":
                    required |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    assert {"torch", "onnxruntime", "pyarrow"} <= required
    assert required - EXTRAS.keys() == set()


def test_errors_that_the_user_can_end_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    full = resource_error(OSError(errno.ENOSPC, "No space left on device", "out/model.onnx"))
    assert str(full) == "No space left on device: out/model.onnx\ntry: make room on that disk, or write to another one"
    assert "ulimit -n" in str(resource_error(OSError(errno.EMFILE, "Too many open files")))
    # safetensors and onnxruntime give the system's words alone
    assert resource_error(RuntimeError("I/O error: No space left on device (os error 28)")) is not None
    assert resource_error(OSError(errno.ENOENT, "No such file or directory", "x")) is None
    assert resource_error(ValueError("anything else")) is None
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    with pytest.raises(FileNotFoundError) as none:
        tempfile.gettempdir()
    assert "TMPDIR=DIR" in str(resource_error(none.value))
