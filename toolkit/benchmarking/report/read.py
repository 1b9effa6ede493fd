"""A reader of `report.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.benchmarking.results import (
    BatchPoint,
    Claim,
    Comparison,
    Kind,
    LengthPoint,
    LoadResult,
    ModelFacts,
    Offline,
    Replication,
    Report,
    Resolved,
    Scenario,
    ServerLoad,
    Side,
    SingleStream,
    Timing,
)
from toolkit.errors import ToolkitError, reason_of

SCHEMA_VERSION = 2


def read_report(path: Path) -> Report:
    """Read a report.json, or the one in a folder.

    Raises:
        ToolkitError: the file is no report, or of another version of the schema.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version == SCHEMA_VERSION:
            return parse_report(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {reason_of(error)}"
        raise ToolkitError(
            f"{file} is not a bench report: {reason}", expected="the report.json of toolkit bench"
        ) from None
    raise ToolkitError(
        f"{file} has schema version {version}; this toolkit compares {SCHEMA_VERSION}", fix="measure it again"
    )


def parse_report(content: Mapping[str, Any]) -> Report:
    """Turn the content of a report.json into a report.

    Raises:
        KeyError, TypeError, ValueError: an entry is missing, unknown or of another type.
    """
    parsed = {
        "resolved": Resolved(**content["resolved"]),
        "models": [ModelFacts(**model) for model in content["models"]],
        "comparisons": [_comparison(entry) for entry in content["comparisons"]],
        "claims": [Claim(**claim) for claim in content["claims"]],
        "latency_by_length": [LengthPoint(**point) for point in content["latency_by_length"]],
        "throughput_by_batch": [BatchPoint(**point) for point in content["throughput_by_batch"]],
        "scenarios": [_scenario(entry) for entry in content["scenarios"]],
    }
    return Report(**{**content, **parsed})


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    replicated = entry.get("replicated")
    if replicated:
        replicated = Replication(**{**replicated, "runs": [Timing(**run) for run in replicated["runs"]]})
    parsed = {
        "kind": Kind(entry["kind"]), "a": Side(**entry["a"]), "b": Side(**entry["b"]), "replicated": replicated,
    }  # fmt: skip
    return Comparison(**{**entry, **parsed})


def _scenario(entry: Mapping[str, Any]) -> Scenario:
    if entry["scenario"] == "server":
        return ServerLoad(**{**entry, "trials": [LoadResult(**trial) for trial in entry["trials"]]})
    kinds: dict[str, type[Scenario]] = {"single": SingleStream, "offline": Offline}
    return kinds[entry["scenario"]](**entry)
