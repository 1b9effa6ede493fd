"""The names of models: in NAME=DIR or NAME=URL the name itself, else the directory's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from toolkit.errors import ToolkitError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # safe in a path, a header, and a label of a metric
URL = re.compile(rf"(?:(?P<name>{NAME.pattern})=)?(?P<url>https?://.+)", re.DOTALL)
UNNAMED_URL = "fallback"


@dataclass(frozen=True)
class NamedModel:
    """A model that an option names.

    Attributes:
        name: of the model.
        place: its directory, its name on the hub, or its URL without a slash at the end.
        remote: whether it is a URL.
    """

    name: str
    place: str
    remote: bool

    @classmethod
    def parse(cls, given: str) -> NamedModel:
        """Parse DIR, NAME=DIR, URL or NAME=URL.

        Raises:
            ToolkitError: a name that does not fit into a path, or a URL that is none or has a password.
        """
        if match := URL.fullmatch(given):
            _check_url(match["url"])
            return cls(match["name"] or UNNAMED_URL, match["url"].rstrip("/"), remote=True)
        name, equals, directory = given.partition("=")
        if not equals or Path(given).is_dir():  # a directory may have = in its name
            directory = given
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(given).resolve().name).strip("-._")[:64] or "model"
        if not NAME.fullmatch(name):
            raise ToolkitError(f"{given}: {name!r} is no name for a model", expected="letters, digits, and . _ -")
        return cls(name, directory, remote=False)


def _check_url(url: str) -> None:
    try:
        place = urlsplit(url).netloc
    except ValueError as error:
        raise ToolkitError(f"{url} is no URL: {error}") from None
    if "@" in place:
        raise ToolkitError(
            "a URL holds a name or password, which anyone sees in logs and lists of processes",
            expected="http://HOST or https://HOST", fix="a key in TOOLKIT_API_KEY",
        )  # fmt: skip
