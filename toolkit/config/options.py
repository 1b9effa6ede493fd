"""A command's line from its configuration class: an option for each field, `--config FILE.toml`, `--print-config`.

Values come from the command line, then the file, then the defaults. The file's keys are the options' names; where
one field has a flag for each choice (`--int8`, `--fp32`), the key is the field's (`precision = "int8"`).
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.config.base import Config
from toolkit.console import echo
from toolkit.errors import ToolkitError, raise_problems

Field = dataclasses.Field[Any]
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
}


def from_config(kind: type[Config]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Make a command whose options are the fields of a configuration class, with their defaults and help."""

    def decorate(run: Callable[[Any], None]) -> Callable[..., None]:
        """The command; its signature, which typer reads, has a parameter for each field."""
        fields, hints = _fields(kind)

        def command(context: typer.Context, config: str | None, print_config: bool, **options: Any) -> None:
            del config  # read before all others, by its callback
            given = context.default_map or {}
            made = kind(**{field.name: _value(field, options, dict(given)) for field in fields})
            if not print_config:
                run(made)
                return
            made.check()
            echo(to_toml(made.resolved()))

        parameters = [one for field in fields for one in _parameters(field, hints[field.name])]
        parameters += [_keyword("context", typer.Context), *_file_parameters(kind)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__doc__, command.__name__ = run.__doc__, run.__name__
        return command

    return decorate


def to_toml(config: Config) -> str:
    """A configuration as a file that `--config` takes; what is left to be worked out stands there as a comment."""
    lines = []
    for field in _fields(type(config))[0]:
        value, key = getattr(config, field.name), _key(field.name)
        lines.append(f"# {key}: {field.metadata['help']}" if value is None else f"{key} = {_toml(value)}")
    return "\n".join(lines)


def read_toml(kind: type[Config], path: Path) -> dict[str, Any]:
    """The options in a file, by field name.

    Raises:
        ToolkitError: no such file, no TOML, or keys and values that no option has: all of them at once.
    """
    import tomllib

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ToolkitError(f"--config {path}: {error.strerror}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolkitError(f"--config {path} is not TOML: {error}", expected="lines such as seed = 7") from None
    fields, hints = _fields(kind)
    known = {_key(field.name): field for field in fields}
    raise_problems(
        (fault for key, value in found.items() for fault in _faults(key, value, known, hints)),
        subject=f"--config {path}", fix="--print-config shows every key with its value",
    )  # fmt: skip
    return {known[key].name: value for key, value in found.items()}


def _fields(kind: type[Config]) -> tuple[tuple[Field, ...], dict[str, Any]]:
    return dataclasses.fields(kind), typing.get_type_hints(kind)  # type: ignore[arg-type]


def _key(name: str) -> str:
    return name.replace("_", "-")


def _faults(key: str, value: Any, known: dict[str, Field], hints: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one entry of a file."""
    if key not in known:
        near = difflib.get_close_matches(_key(key), known, 1)
        yield f"{key}: no such option" + (f"; did you mean {near[0]}?" if near else "")
        return
    field = known[key]
    if choices := field.metadata.get("flags"):
        if value not in choices:
            yield f"{key} = {json.dumps(value, default=str)}: expected one of {', '.join(choices)}"
        return
    several, wanted = _plain(hints[field.name])
    values = value if several and isinstance(value, list) else [value]
    if (several and not isinstance(value, list)) or not all(_fits(one, wanted) for one in values):
        expected = f"a list of {WORDS[wanted]}" if several else WORDS[wanted]
        yield f"{key} = {json.dumps(value, default=str)}: expected {expected}"


def _fits(value: Any, wanted: type) -> bool:
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    return isinstance(value, int | float) if wanted is float else isinstance(value, wanted)


def _plain(hint: Any) -> tuple[bool, type]:
    """Whether a hint stands for any number of values, and the type of one: int | None is an int."""
    if typing.get_origin(hint) is tuple:
        return True, typing.get_args(hint)[0]
    if isinstance(hint, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    return False, hint


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's escapes are TOML's, but for the one control character that JSON lets stand
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _value(field: Field, options: dict[str, Any], given: dict[str, Any]) -> Any:
    """A field's value from the command line or the file."""
    if "flags" not in field.metadata:
        return tuple(options[field.name]) if isinstance(options[field.name], list) else options[field.name]
    chosen = [name for name in field.metadata["flags"] if options[name]]
    if len(chosen) > 1:
        raise ToolkitError(f"--{' and --'.join(chosen)} together", expected="one of them")
    return chosen[0] if chosen else given.get(field.name, field.default)


def _parameters(field: Field, hint: Any) -> Iterator[inspect.Parameter]:
    """The options of one field: itself, or a flag for each of its choices."""
    if "flags" not in field.metadata:
        yield _parameter(field, hint)
        return
    for name, text in field.metadata["flags"].items():
        yield _keyword(name, Annotated[bool, typer.Option(f"--{name}", help=text, show_default=False)], False)


def _parameter(field: Field, hint: Any) -> inspect.Parameter:
    several, wanted = _plain(hint)
    asked: Any = wanted
    if several:
        asked = types.GenericAlias(list, (wanted,))  # typer's word for "any number of these"
    elif wanted is not hint:
        asked = typing.Optional[wanted]  # noqa: UP045
    text, positional = field.metadata["help"], field.metadata.get("argument")
    shown = typer.Argument(help=text, metavar="DIR") if positional else typer.Option(help=text)
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if "unless" in field.metadata:
        default = None
    return _keyword(field.name, Annotated[asked, shown], list(default) if isinstance(default, tuple) else default)


def _file_parameters(kind: type[Config]) -> list[inspect.Parameter]:
    def read(context: typer.Context, path: str | None) -> str | None:
        if path is not None and not context.resilient_parsing:
            context.default_map = read_toml(kind, Path(path))
        return path

    from_file = typer.Option(
        help="TOML file of options; those on the command line win", callback=read, is_eager=True, metavar="FILE"
    )
    show = typer.Option("--print-config", help="print all options as such a file and exit", show_default=False)
    return [
        _keyword("config", Annotated[typing.Optional[str], from_file], None),  # noqa: UP045
        _keyword("print_config", Annotated[bool, show], False),
    ]


def _keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
