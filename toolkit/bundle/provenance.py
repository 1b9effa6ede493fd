"""The chain from a bundle back to its teacher and data, and whether a bundle is what a command would make again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.bundle.format import Bundle, is_bundle, open_bundle
from toolkit.console import echo
from toolkit.files import file_record


def was_made_with(bundle: Bundle, options: dict[str, Any], parent: str | None) -> bool:
    """Whether a bundle was made from this parent with these options; what is None in them may have been anything."""
    stored, wanted = bundle.manifest["config"], json.loads(json.dumps(options))  # through JSON, where tuples are lists
    same = all(value is None or stored.get(name) == value for name, value in wanted.items())
    return same and bundle.manifest["parent"] == parent


def run_or_reuse(title: str, config: Any, run: Callable[[Any], Bundle], parent: Bundle | None = None) -> Bundle:
    """Run a step, or keep its bundle when it was made by the same configuration from the same parent."""
    made = Path(config.out)
    if is_bundle(made) and _made_by(open_bundle(made), config, parent):
        echo(f"== {title}: {made} is there already")
        return open_bundle(made)
    echo(f"== {title}")
    return run(config)


def _made_by(bundle: Bundle, config: Any, parent: Bundle | None) -> bool:
    return was_made_with(bundle, config.resolved().to_dict(), parent.digest if parent else bundle.manifest["parent"])


KEPT = ("kind", "digest", "precision", "max_length", "seed", "metrics", "data", "versions", "made_from")


def origin(name: str, revision: str | None = None) -> dict[str, Any]:
    """What goes into the manifest of a bundle made from `name`: a bundle, a directory or a name on the hub.

    Args:
        name: as given on the command line.
        revision: the hub's commit, where the model comes from there.

    Raises:
        ToolkitError: a damaged bundle.
    """
    path = Path(name)
    if is_bundle(path):
        manifest = open_bundle(path).manifest
        kept = {key: manifest[key] for key in KEPT if manifest.get(key) is not None}
        return {**kept, "name": name}
    found: dict[str, Any] = {"kind": "model", "name": name}
    if (path / "model.safetensors").is_file():
        found["weights_sha256"] = file_record(path / "model.safetensors")["sha256"]
    return found if revision is None else {**found, "revision": revision}
