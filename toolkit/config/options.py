"""The command line of a configuration class: an option for each field, `--config FILE.toml`, `--print-config`.

Values come from the command line, then the file, then the defaults. The file's keys are the options' names; where
one field has a flag for each choice (`--int8`, `--fp32`), the key is the field's (`precision = "int8"`). A value in a
file that only says what its other values lead to, as `--print-config` writes it, follows the command line's changes.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from toolkit.config.base import Config
from toolkit.console import echo, listening
from toolkit.errors import ToolkitError, raise_problems

EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
METAVARS = {int: "N", float: "NUMBER", str: "NAME"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a configuration class, as the command line and a TOML file give it.

    Attributes:
        field: its name, its default and, in its metadata, its help.
        kind: type of the value, or of each value if there may be several.
        several: the option may be repeated; in a file its value is a list.
        optional: the default may be None.
    """

    field: dataclasses.Field[Any]
    kind: type
    several: bool
    optional: bool

    @property
    def key(self) -> str:
        """Its name in a file."""
        return _key(self.field.name)

    @property
    def flags(self) -> Mapping[str, str]:
        """Help of the flag for each of its choices, by choice; empty if it is one option."""
        return typing.cast("Mapping[str, str]", self.field.metadata.get("flags", {}))


class GroupedCommand(TyperCommand):
    """A command whose help lists options under the headings that their fields name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading, in the order of the fields."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            name, text = record
            heading = getattr(parameter, "rich_help_panel", None) or "Options"
            if parameter.param_type_name == "argument":
                heading, name = "Arguments", f"{parameter.metavar}{'...' if parameter.nargs != 1 else ''}"
            elif parameter.secondary_opts and not parameter.default:
                name = parameter.opts[0]  # its twin --no-x only undoes what a file says
            sections.setdefault(heading, []).append((name, text))
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def from_config(config_class: type[Config]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Make a command whose options are the fields of a configuration class, with their defaults and help."""

    def decorate(run: Callable[[Any], None]) -> Callable[..., None]:
        """Give the command a signature with a parameter for each field, which typer reads."""
        settings = settings_of(config_class)

        def command(context: typer.Context, config: str | None, print_config: bool, **options: Any) -> None:
            del config  # its callback has read the file before typer reads any other option
            stored = context.default_map or {}
            made = config_class(**{setting.field.name: _value(setting, options, stored) for setting in settings})
            kept = [name for name in stored if name in options and not _is_given(context, name)]
            made = _follow(made, kept, stored)
            if not print_config:
                with listening():
                    run(made)
                return
            made.check()
            echo(to_toml(made.resolved()))

        parameters = [parameter for setting in settings for parameter in _parameters(setting)]
        parameters += [_keyword("context", typer.Context), *_file_parameters(config_class)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__doc__, command.__name__ = run.__doc__, run.__name__
        return command

    return decorate


def to_toml(config: Config) -> str:
    """Write a configuration as a file that `--config` takes; an option that is None stands there as a comment."""
    lines = []
    for setting in settings_of(type(config)):
        value, text = getattr(config, setting.field.name), setting.field.metadata.get("help")
        lines.append(f"# {setting.key}: {text}" if value is None else f"{setting.key} = {_toml(value)}")
    return "\n".join(lines)


def read_toml(config_class: type[Config], path: Path) -> dict[str, object]:
    """Read the options in a file, by field name.

    Raises:
        ToolkitError: no such file, no TOML, or keys and values that no option has: all of them at once.
    """
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ToolkitError(f"--config {path}: {error.strerror}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolkitError(f"--config {path} is not TOML: {error}", expected="lines such as seed = 7") from None
    settings = {setting.key: setting for setting in settings_of(config_class)}
    raise_problems(
        (problem for key, value in values.items() for problem in value_problems(key, value, settings)),
        subject=f"--config {path}", fix="--print-config shows every key with its value",
    )  # fmt: skip
    return {settings[key].field.name: value for key, value in values.items()}


def settings_of(config_class: type[Config]) -> list[Setting]:
    """Give the fields of a configuration class in their order, with the types of their values."""
    hints = typing.get_type_hints(config_class)
    return [_setting(field, hints[field.name]) for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]


def _setting(field: dataclasses.Field[Any], hint: Any) -> Setting:
    """Read a type hint: `int` and `int | None` are an int, `tuple[int, ...]` is several."""
    types_of = typing.get_args(hint)
    kind = next((kind for kind in types_of if kind is not types.NoneType), hint)
    return Setting(field, kind, typing.get_origin(hint) is tuple, types.NoneType in types_of)


def _key(name: str) -> str:
    return name.replace("_", "-")


def value_problems(key: str, value: object, settings: Mapping[str, Setting]) -> Iterator[str]:
    """List the problems of an option's value: a name that no option has, or another type."""
    if key not in settings:
        near = difflib.get_close_matches(_key(key), settings, 1)
        yield f"{key}: no such option" + (f"; did you mean {near[0]}?" if near else "")
        return
    setting = settings[key]
    if setting.flags:
        fits, expected = value in setting.flags, f"one of {', '.join(setting.flags)}"
    elif setting.several:
        fits = isinstance(value, list) and all(_fits(item, setting.kind) for item in value)
        expected = f"a list of {EXPECTED[setting.kind]}"
    else:
        fits, expected = _fits(value, setting.kind), EXPECTED[setting.kind]
    if not fits:
        yield f"{key} = {json.dumps(value, default=str)}: expected {expected}"


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # JSON's escapes are TOML's, but for the one control character that JSON lets stand
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _value(setting: Setting, options: Mapping[str, Any], stored: Mapping[str, Any]) -> Any:
    """Give a field's value from the command line or the file."""
    name = setting.field.name
    if not setting.flags:
        return tuple(options[name]) if setting.several else options[name]
    chosen = [choice for choice in setting.flags if options[choice]]
    if len(chosen) > 1:
        raise ToolkitError(f"--{' and --'.join(chosen)} together", expected="one of them")
    return chosen[0] if chosen else stored.get(name, setting.field.default)


def _is_given(context: typer.Context, name: str) -> bool:
    """Return whether the command line gives an option, not a file or its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _follow(made: Config, kept: Iterable[str], stored: Mapping[str, Any]) -> Config:
    """Work out again each value of a file that follows from the file's other values.

    Args:
        made: the configuration from the command line and the file.
        kept: names of the file's values that the command line leaves.
        stored: all values of the file.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    in_file: Config = dataclasses.replace(made, **values)  # type: ignore[type-var]
    if any(in_file.problems()):
        return made
    own = in_file.without_derived()
    return dataclasses.replace(made, **{name: getattr(own, name) for name in kept})  # type: ignore[type-var]


def _parameters(setting: Setting) -> Iterator[inspect.Parameter]:
    """Give the parameters of one field: itself, or a flag for each of its choices."""
    if not setting.flags:
        yield _parameter(setting)
    for name, text in setting.flags.items():
        flag = typer.Option(f"--{name}", help=text, show_default=False, rich_help_panel=setting.field.metadata["group"])
        yield _keyword(name, Annotated[bool, flag], False)


def _parameter(setting: Setting) -> inspect.Parameter:
    field, annotation = setting.field, typing.cast("Any", setting.kind)
    if setting.several:
        annotation = types.GenericAlias(list, (setting.kind,))  # typer's word for "any number of these"
    elif setting.optional:
        annotation = typing.Optional[setting.kind]  # noqa: UP045
    metadata, default = field.metadata, field.default
    if default is dataclasses.MISSING:
        default = None if metadata.get("unless") else inspect.Parameter.empty
    metavar = metadata["metavar"] or METAVARS.get(setting.kind)
    shown: Any = typer.Argument(help=metadata["help"], metavar=metavar)
    if not metadata.get("argument"):
        # by itself, typer 0.27 takes the spelling of a metavar that is the name in capitals: --TASK
        name = f"--{setting.key}/--no-{setting.key}" if setting.kind is bool else f"--{setting.key}"
        shown = typer.Option(
            name, help=metadata["help"], metavar=metavar, rich_help_panel=metadata["group"],
            show_default=default is not False,
        )  # fmt: skip
    return _keyword(field.name, Annotated[annotation, shown], list(default) if isinstance(default, tuple) else default)


def _file_parameters(config_class: type[Config]) -> list[inspect.Parameter]:
    def read(context: typer.Context, path: str | None) -> str | None:
        if path is not None and not context.resilient_parsing:
            context.default_map = read_toml(config_class, Path(path))
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
