"""The Hugging Face hub: names that may be there, and whether it answers, asked once instead of by many retries."""

from __future__ import annotations

import difflib
import os
import re
import urllib.request
from functools import cache
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError

from toolkit.errors import ToolkitError

TIMEOUT_S = 5.0
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
UNREACHABLE = "the hub cannot be reached"


def hub_endpoint() -> str:
    """Return the address of the hub, or of its mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


@cache
def hub_answers() -> bool:
    """Return whether the hub answers within TIMEOUT_S: asked once, and not at all where variables say offline."""
    if any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_VARIABLES):
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(hub_endpoint(), method="HEAD"), timeout=TIMEOUT_S).close()  # noqa: S310
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, SSLError)  # it is there; the hub's own client may know its certificate
    except (OSError, HTTPException):
        return False
    return True


def check_model_name(name: str) -> None:
    """Refuse the path of a directory that does not exist; any other name may be on the hub.

    Raises:
        ToolkitError: the message names directories of a similar name.
    """
    path = Path(name)
    if path.exists() or (NAME.fullmatch(name) and ("/" not in name or not path.parent.is_dir())):
        return
    raise ToolkitError(
        f"{name}: no such directory", expected="a directory with a model, or a name on the hub", fix=_similar(path)
    )


def not_on_disk(name: str) -> ToolkitError:
    """Make the error for a name that is not on this machine, while the hub does not answer."""
    return ToolkitError(
        f"{name} is neither a directory nor a model of the hub that is on this machine, and {UNREACHABLE} "
        f"({hub_endpoint()})",
        expected="a directory with a model, or a network", fix=_similar(Path(name)),
    )  # fmt: skip


def _similar(path: Path) -> str:
    """Name directories beside a path whose names are like its own; "" where there are none."""
    siblings = [sibling.name for sibling in path.parent.iterdir() if sibling.is_dir()] if path.parent.is_dir() else []
    return " or ".join(str(path.with_name(near)) for near in difflib.get_close_matches(path.name, siblings, 2))
