"""The contents of a bundle's files, verified as they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from toolkit.bundle.baseline import Baseline, parse_baseline
from toolkit.bundle.calibration import Calibration, calibration_of
from toolkit.bundle.format import Bundle
from toolkit.bundle.manifest import BASELINE, CALIBRATION, MANIFEST, WEIGHTS
from toolkit.errors import ToolkitError
from toolkit.files import read_regular
from toolkit.tasks import TaskRecord

Content = TypeVar("Content")
Parse = Callable[[bytes, TaskRecord | None], Content]


def read_file(bundle: Bundle, name: str) -> bytes:
    """Read a file of an opened bundle and verify these very bytes, since the file may have changed after the opening.

    Raises:
        ToolkitError: the file is gone, or differs from the manifest.
    """
    path = bundle.path / name
    record = bundle.manifest["files"][name]
    try:
        content = read_regular(path, record["size_bytes"])
    except OSError as error:
        raise ToolkitError(f"{path}: {error.strerror}", fix=f"restore {bundle.path} from a good copy") from None
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise ToolkitError(f"{path} has changed since {MANIFEST} was read", fix="start again once it is written")
    return content


def read_weights(bundle: Bundle) -> bytes | None:
    """Read the weight file as `read_file` does; None where more files belong to it, which a runtime opens itself."""
    name = bundle.weights.relative_to(bundle.path).as_posix()
    if sum(other.startswith(WEIGHTS) for other in bundle.manifest["files"]) > 1:
        return None
    return read_file(bundle, name)


def read_calibration(bundle: Bundle) -> Calibration | None:
    """Read the calibration of an opened bundle; None where its scores are those of the model alone.

    Raises:
        ToolkitError: the file differs from the manifest, or its entries have other types or make no sense.
    """
    return _parsed(bundle, CALIBRATION, calibration_of, f"toolkit calibrate {bundle.path} --data FILE")


def read_baseline(bundle: Bundle) -> Baseline | None:
    """Read the baseline of an opened bundle; None where it has none.

    Raises:
        ToolkitError: the file differs from the manifest, or its entries have other types or make no sense.
    """
    return _parsed(bundle, BASELINE, parse_baseline, f"export {bundle.path} again")


def _parsed(bundle: Bundle, name: str, parse: Parse[Content], fix: str) -> Content | None:
    if name not in bundle.manifest["files"]:
        return None
    try:
        return parse(read_file(bundle, name), bundle.manifest["task"])
    except ValueError as error:
        raise ToolkitError(f"{bundle.path / name} is damaged: {error}", fix=fix) from None
