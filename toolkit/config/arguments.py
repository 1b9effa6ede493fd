"""The options of a configuration class as the arguments of a Python function, which type checkers and `help` know.

The configuration class is the only list of options. A function that takes one becomes a function of its fields.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING
from typing import ParamSpec, TypeVar, cast

from toolkit.config.base import Config
from toolkit.config.options import Setting, settings_of, value_problems
from toolkit.console import silent_unless_listening
from toolkit.errors import raise_problems

P = ParamSpec("P")
C = TypeVar("C", bound=Config)
R = TypeVar("R")


def takes(config_class: Callable[P, C]) -> Callable[[Callable[[C], R]], Callable[P, R]]:
    """Make a function of a configuration into a function of its options, which says nothing unless a caller listens.

    Args:
        config_class: a configuration class; its constructor gives the function's signature.
    """
    made = cast("type[C]", config_class)

    def decorate(run: Callable[[C], R]) -> Callable[P, R]:
        """Give the function the signature, and a docstring with every option."""

        @functools.wraps(run)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            config = from_arguments(made, run.__name__, arguments, options)
            with silent_unless_listening():
                return run(config)

        call.__signature__ = _signature(made, run)  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.getdoc(run)}\n\nArgs:\n{_described(made)}"
        return call

    return decorate


def from_arguments(config_class: type[C], name: str, arguments: tuple[object, ...], options: Mapping[str, object]) -> C:
    """Make a configuration from the arguments of a call. A path may be an `os.PathLike`, and several values any list.

    Args:
        config_class: the class.
        name: of the function that is called.
        arguments, options: of the call.

    Raises:
        ToolkitError: options that do not exist, lack or have a value of another type: all of them at once.
        TypeError: an option is given twice, or there are more values than options.
    """
    settings = {setting.field.name: setting for setting in settings_of(config_class)}
    known = {key: value for key, value in options.items() if key in settings}
    bound = inspect.signature(config_class).bind_partial(*arguments, **known).arguments
    values = {key: _plain(value, settings[key]) for key, value in bound.items()}
    unknown = {key: value for key, value in options.items() if key not in settings}
    raise_problems(_problems(settings, values | unknown), subject=f"{name}()", fix=f"help(toolkit.{name})")
    optional = {key: None for key, setting in settings.items() if setting.field.metadata.get("unless")}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return config_class(**(optional | values | lists))


def _problems(settings: Mapping[str, Setting], values: Mapping[str, object]) -> Iterator[str]:
    """List the problems of the options of a call."""
    for key, value in values.items():
        if value is None and key in settings and settings[key].optional:
            continue
        yield from value_problems(key, value, settings)
    for key, setting in settings.items():
        if key not in values and _is_required(setting):
            yield f"{key} is missing: expected the {setting.field.metadata['help']}"


def _is_required(setting: Setting) -> bool:
    return setting.field.default is MISSING and not setting.field.metadata.get("unless")


def _plain(value: object, setting: Setting) -> object:
    """Turn a path into text, and one value or an iterable of several into a list where the option takes several."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not setting.several or value is None:
        return value
    if isinstance(value, list | tuple):
        return [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
    return [value]


def _signature(config_class: type[Config], run: Callable[..., object]) -> inspect.Signature:
    own = inspect.signature(config_class, eval_str=True)
    unless = {setting.field.name for setting in settings_of(config_class) if setting.field.metadata.get("unless")}
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None if name in unless else parameter.default)
        for name, parameter in own.parameters.items()
    ]
    return inspect.Signature(parameters, return_annotation=inspect.signature(run).return_annotation)


def _described(config_class: type[Config]) -> str:
    """Write the options as a section of a docstring."""
    lines = []
    for setting in settings_of(config_class):
        choices = "; ".join(f"{choice}: {text}" for choice, text in setting.flags.items())
        lines.append(f"    {setting.field.name}: {choices or setting.field.metadata['help']}.")
    return "\n".join(lines)
