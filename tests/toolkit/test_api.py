"""The Python API: its names, its silence, what it returns, and that the command line has no way of its own."""

from __future__ import annotations

import ast
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import toolkit
from tests.support.distillation import SMALL
from tests.support.paths import ROOT
from toolkit import api
from toolkit.cli import main
from toolkit.console import listening, silent_unless_listening


def test_the_names_are_the_same_for_python_editors_and_the_module() -> None:
    tree = ast.parse((ROOT / "toolkit" / "__init__.py").read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "toolkit.api"]
    assert [alias.name for alias in imported[0].names] == toolkit.__all__ == api.__all__
    for name in toolkit.__all__:
        assert getattr(toolkit, name) is getattr(api, name)
        assert name == "Listener" or inspect.getdoc(getattr(api, name))
    assert set(toolkit.__all__) < set(dir(toolkit))
    with pytest.raises(AttributeError, match="'toolkit' has no attribute 'distil'"):
        toolkit.distil  # noqa: B018


def test_names_of_the_api_hide_no_room() -> None:
    rooms = {path.stem for path in (ROOT / "toolkit").iterdir()}
    assert rooms & set(toolkit.__all__) == set()


def test_every_command_calls_the_function_of_its_name() -> None:
    source = inspect.getsource(main)
    commands = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    own = {"root", "demo", "show", "predict", "push", "pull", "sign", "verify"}
    for node in commands:
        calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        assert node.name in own or f"toolkit.{node.name}" in calls
    shared = {node.name for node in commands} - own
    assert shared == set(toolkit.__all__) & shared
    for name in (*shared, "distill_seeds", "load"):
        words = {"Args:", "Raises:"} | ({"Returns:"} if name != "serve" else set())
        assert words <= set((inspect.getdoc(getattr(toolkit, name)) or "").split()), name


def test_a_student_in_python_without_a_word(
    tiny_teacher: Path, data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every step gives what the next takes; nothing is printed; a callback gets each step."""
    events: list[toolkit.Event] = []
    data, settings = str(data_dir), {**SMALL, "prediction_lr": 2e-3}
    with listening(events.append):
        student = toolkit.distill(teacher=tiny_teacher, task="auto", data=data, out=tmp_path / "student", **settings)  # type: ignore[arg-type]
    steps = [event for event in events if event.name == "prediction"]
    assert [event.done for event in steps] == list(range(1, steps[-1].done + 1)), "its own patience may end it"
    assert {name for event in steps for name in event.figures} >= {"loss", "selection"}
    small = toolkit.export(source=student, out=tmp_path / "int8", data=data, max_drop=20.0)  # type: ignore[arg-type]
    assert (small.kind, small.precision, small.path) == ("onnx", "int8", tmp_path / "int8")
    evaluation = toolkit.evaluate(bundle=small, data=data)  # type: ignore[arg-type]
    assert evaluation == (small.split, pytest.approx(small.metrics))
    (tmp_path / "texts.txt").write_text("a great film\na bad plot\n")
    scored = toolkit.score(model=small, input=tmp_path / "texts.txt", out=tmp_path / "scored.csv", workers=1)  # type: ignore[arg-type]
    predictor = toolkit.load(small, threads=1)
    answers = predictor.classify(["a great film", "a bad plot"])
    np.testing.assert_allclose([sum(score for _, score in answer) for answer in answers], 1)
    labels = [line.split(",")[1].strip('"') for line in scored.read_text().splitlines()[1:]]
    assert [answer[0].label for answer in answers] == labels
    assert capfd.readouterr() == ("", "")


def test_errors_name_the_argument_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(toolkit.ToolkitError, match="distill makes one student") as caught:
        toolkit.distill(teacher="t", task="sst2", out=str(tmp_path / "o"), seeds="1,2")
    assert caught.value.fix == "distill_seeds"
    with pytest.raises(toolkit.ToolkitError, match="no seeds"):
        toolkit.distill_seeds(teacher="t", task="sst2", out=str(tmp_path / "o"))
    with pytest.raises(toolkit.ToolkitError, match="no such directory"):
        toolkit.load(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    with silent_unless_listening(), pytest.raises(toolkit.ToolkitError, match="bench report"):
        toolkit.bench(bundles=(str(tmp_path), str(tmp_path)), compare=True)


def test_a_server_in_a_thread_is_refused_before_it_listens() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(toolkit.ToolkitError, match=r"serve\(\) in a thread") as caught:
        pool.submit(toolkit.serve, bundles=("runs/int8",)).result()
    assert caught.value.fix == "a process of its own: toolkit serve runs/int8"
