"""Provenance: the origins that a bundle records, and results that a command reuses instead of making them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from toolkit.bundle.format import Bundle, check_output_path, is_bundle, open_bundle
from toolkit.bundle.manifest import Origin
from toolkit.console import echo
from toolkit.errors import ToolkitError
from toolkit.files import file_record

Result = TypeVar("Result")
# entries of a bundle's manifest that go into the manifests of its descendants
ORIGIN_ENTRIES = (
    "kind", "digest", "precision", "max_length", "seed", "split", "metrics", "data", "versions", "made_from",
)  # fmt: skip


def check_output(config: Any, sources: Sequence[str] = ()) -> None:
    """Refuse a `config.out` that cannot be written, or that holds a bundle, unless `config.overwrite` lets it go.

    Args:
        config: options of a command that writes a bundle.
        sources: what it is made from, as `check_output_path` takes them.

    Raises:
        ToolkitError: says whether the same options made the bundle.
    """
    out = Path(config.out)
    check_output_path(out, sources=sources)
    if config.overwrite or not is_bundle(out):
        return
    try:
        made_by = "made by the same options" if _same_options(open_bundle(out), config) else "made by other options"
    except ToolkitError:
        made_by = "and damaged"
    raise ToolkitError(f"--out {out} is there already, {made_by}", fix="--overwrite, or another --out")


def was_made_with(bundle: Bundle, config: Any, parent: Bundle | None) -> bool:
    """Tell whether this configuration made a bundle from this parent.

    A bundle that does not name the split of its scores was made by a toolkit that chose and scored by the same rows.
    """
    manifest = bundle.manifest
    by_today = "split" in manifest or bundle.kind == "general"
    return by_today and _same_options(bundle, config) and manifest["parent"] == (parent.digest if parent else None)


def _same_options(bundle: Bundle, config: Any) -> bool:
    """Compare the options in a manifest with a configuration; an option that was not there yet had its default.

    An option that is not given and that data or models decide fits every value.
    """
    stored, defaults = bundle.manifest["config"], {field.name: field.default for field in fields(config)}
    return all(
        stored.get(name, defaults[name]) == value or (value is None and name in config.decided_late)
        for name, value in as_stored(config.resolved()).items()
    )


def as_stored(config: Any) -> Any:
    """Give options as they come back from JSON: tuples are lists."""
    return json.loads(json.dumps(config.to_dict()))


def stored_bundle(config: Any, parent: Bundle | None) -> Bundle | None:
    """Open the bundle at `config.out` if this configuration made it from this parent."""
    bundle = open_bundle(config.out) if is_bundle(Path(config.out)) else None
    return bundle if bundle is not None and was_made_with(bundle, config, parent) else None


def run_or_reuse(
    title: str, config: Any, run: Callable[[Any], Result], parent: Bundle | None = None,
    read: Callable[[Any, Any], Any] = stored_bundle,
) -> Result:  # fmt: skip
    """Run a step, or reuse its result if the same configuration made it from the same parent.

    Args:
        title: of the step, for the user.
        config: options of the step; its result is written to `config.out`, in place of one by other options.
        run: makes the result.
        parent: bundle that the step starts from.
        read: gives the stored result for (config, parent), or None if there is none.
    """
    stored: Result | None = read(config, parent)
    if stored is None:
        echo(f"== {title}")
        if is_bundle(Path(config.out)):
            echo(
                f"{config.out} was made by other options, from another bundle, or before today's splits: it is replaced"
            )
            config = replace(config, overwrite=True)
        return run(config)
    echo(f"== {title}: {config.out} is there already")
    return stored


def origin(name: str, revision: str | None = None) -> Origin:
    """Describe a source for the manifest of what is made from it.

    Args:
        name: a bundle, a directory or a name on the hub, as on the command line.
        revision: the hub's commit, where the model comes from there.

    Raises:
        ToolkitError: a damaged bundle.
    """
    path = Path(name)
    if is_bundle(path):
        entries = open_bundle(path).manifest.items()
        kept = {key: value for key, value in entries if key in ORIGIN_ENTRIES and value is not None}
        return cast(Origin, {**kept, "name": name})
    source: Origin = {"kind": "model", "name": name}
    weights = [path / file for file in ("model.safetensors", "pytorch_model.bin") if (path / file).is_file()]
    if weights:
        source["weights_sha256"] = file_record(weights[0])["sha256"]
    if revision is not None:
        source["revision"] = revision
    return source
