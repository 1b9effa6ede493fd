"""Functions of options: their signature, their help, and calls with arguments that cannot be used."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path

import pytest

import toolkit
from toolkit import config
from toolkit.config.arguments import takes
from toolkit.config.base import Config, argument, choice_flags, option, required
from toolkit.console import echo
from toolkit.errors import ToolkitError

FUNCTIONS = {
    "finetune": config.FinetuneConfig, "distill": config.DistillConfig, "distill_seeds": config.DistillConfig,
    "augment": config.AugmentConfig, "evaluate": config.EvaluateConfig, "export": config.ExportConfig,
    "calibrate": config.CalibrateConfig, "bench": config.BenchConfig, "score": config.ScoreConfig,
    "serve": config.ServeConfig, "compress": config.CompressConfig,
}  # fmt: skip


@dataclass(frozen=True)
class Options(Config):
    """Options of every sort."""

    models: tuple[str, ...] = argument("models to bake")
    teacher: str | None = required("teacher", unless="scores")
    out: str = required("oven")
    precision: str = choice_flags("int8", int8="small", fp32="large")
    epochs: int | None = option(None, "rounds")
    rate: float = option(0.5, "heat")
    overwrite: bool = option(False, "replace the cake")


@takes(Options)
def bake(options: Options) -> Options:
    """Bake."""
    echo("in the oven")
    return options


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_options_of_the_command_are_the_arguments(name: str) -> None:
    """The signature has each option with its default, and the docstring its help: they come from one class."""
    function = getattr(toolkit, name)
    parameters = inspect.signature(function).parameters
    fields = {field.name: field for field in dataclasses.fields(FUNCTIONS[name])}
    assert list(parameters) == list(fields)
    for key, field in fields.items():
        missing = None if field.metadata.get("unless") else inspect.Parameter.empty
        assert parameters[key].default == (missing if field.default is dataclasses.MISSING else field.default)
        assert f"\n    {key}: " in function.__doc__
        assert all(
            text in function.__doc__ for text in field.metadata.get("flags", {0: field.metadata.get("help")}).values()
        )
    assert "\nRaises:\n    ToolkitError: " in function.__doc__


def test_arguments_are_made_plain_and_defaults_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Made:
        def __fspath__(self) -> str:
            return "runs/teacher"

    options = bake([tmp_path, "b"], teacher=Made(), out=tmp_path / "cake", rate=1)  # type: ignore[arg-type]
    assert options == Options((str(tmp_path), "b"), "runs/teacher", str(tmp_path / "cake"), rate=1)
    assert bake("a", out="o") == Options(("a",), None, "o")  # type: ignore[arg-type]
    assert bake(("a",), epochs=None, out="o").precision == "int8"
    assert capsys.readouterr().out == ""


def test_every_problem_of_a_call_at_once() -> None:
    with pytest.raises(ToolkitError) as caught:
        bake(epoch=3, epochs="3", overwrite=1, precision="int4", rate=None, teacher=7)  # type: ignore[call-arg, arg-type]
    assert str(caught.value).splitlines() == [
        "bake(): 8 problems",
        "  - teacher = 7: expected text in quotes",
        '  - precision = "int4": expected one of int8, fp32',
        '  - epochs = "3": expected a whole number',
        "  - rate = null: expected a number",
        "  - overwrite = 1: expected true or false",
        "  - epoch: no such option; did you mean epochs?",
        "  - models is missing: expected the models to bake",
        "  - out is missing: expected the oven",
        "try: help(toolkit.bake)",
    ]


def test_an_option_given_twice_is_an_error_of_the_program() -> None:
    with pytest.raises(TypeError, match="multiple values for argument 'models'"):
        bake(("a",), models=("b",), out="o")
