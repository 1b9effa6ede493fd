"""Two reports held against each other: what got slower, beyond what noise explains.

What is compared are ratios that were measured within one process each: a program against its yardstick. How fast the
machine was on the day cancels out of them; a program and its yardstick that slow down alike go unseen, so their
milliseconds stand beside. A ratio fell beyond noise when the 95 % interval of new / old, a bootstrap of both reports'
raw samples, is wholly below 1 by more than MIN_CHANGE and by more than the A/A controls of both reports are off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bench.report.claims import control_widening
from toolkit.bench.report.tables import SCHEMA_VERSION, milliseconds
from toolkit.errors import ToolkitError
from toolkit.measurement.statistics import changed_ratio
from toolkit.reports.table import Table

MIN_CHANGE = 1.05  # two processes of one program differ by this much: where their memory lies, what else runs
SAME = ("cpu", "python", "gpu")


@dataclass(frozen=True)
class Regressions:
    """What a comparison of reports came to.

    Attributes:
        table: every comparison that both reports have.
        slower: a line for each that got slower beyond noise.
        compared: how many there were.
        notes: what differs between the machines and the options.
    """

    table: Table
    slower: list[str]
    compared: int
    notes: list[str]


def read_report(path: Path) -> dict[str, Any]:
    """A report.json, or the one in a folder.

    Raises:
        ToolkitError: it is none, or of another version of the schema.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ToolkitError(
            f"{file} is not a bench report: {type(error).__name__}", expected="the report.json of toolkit bench"
        ) from None
    if version != SCHEMA_VERSION:
        raise ToolkitError(
            f"{file} has schema version {version}; this toolkit compares {SCHEMA_VERSION}", fix="measure it again"
        )
    return dict(content)


def regressions(old: dict[str, Any], new: dict[str, Any]) -> Regressions:
    """Compare what both reports have.

    Raises:
        ToolkitError: they have nothing in common.
    """
    before, after = _by_key(old), _by_key(new)
    shared = [key for key in before if key in after]
    if not shared:
        raise ToolkitError(
            "the two reports have no comparison in common",
            expected="the same kinds, architectures, batch sizes and lengths in both",
        )
    rows, slower = [], []
    for key in shared:
        one, other = before[key], after[key]
        change = changed_ratio(_ratios(one), _ratios(other))
        noise = max(MIN_CHANGE, _disturbance(old, one) * _disturbance(new, other))
        fell, rose = change.high < 1 / noise, change.low > noise
        name = f"{other['kind']}: {other['b']['label']} over {other['a']['label']}, batch {other['batch_size']}"
        rows.append([
            name, f"{one['ratio']:.2f}x", f"{other['ratio']:.2f}x",
            f"{change.value:.2f} [{change.low:.2f}, {change.high:.2f}]", f"{noise:.2f}x",
            f"{milliseconds(one['b_median_ms'])} to {milliseconds(other['b_median_ms'])}",
            "slower" if fell else "faster" if rose else "same",
        ])  # fmt: skip
        if fell:
            slower.append(f"{name}: {one['ratio']:.2f}x before, {other['ratio']:.2f}x now, {noise:.2f}x is noise")
    columns = ["comparison", "old", "new", "new / old [95 %]", "noise", "ms", "verdict"]
    return Regressions(Table("Old against new", columns, rows), slower, len(shared), list(_differences(old, new)))


def _by_key(content: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Comparisons by what was compared. Bundles go by their architecture: their paths may differ between reports."""
    names = {one["name"]: one["architecture"] for one in content["models"]}

    def side(one: dict[str, Any]) -> tuple[str, ...]:
        return names.get(one["model"], one["model"]), one["runtime"], one["precision"]

    return {
        (one["kind"], one["batch_size"], one["length"], side(one["a"]), side(one["b"])): one
        for one in content["comparisons"] if one["kind"] != "control"
    }  # fmt: skip


def _ratios(one: dict[str, Any]) -> np.ndarray:
    return np.asarray(np.array(one["a_samples_ms"]) / np.array(one["b_samples_ms"]))


def _disturbance(content: dict[str, Any], one: dict[str, Any]) -> float:
    model = next((x["architecture"] for x in content["models"] if x["name"] == one["b"]["model"]), one["b"]["model"])
    return control_widening(content["comparisons"], model, one["batch_size"])


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    def facts(content: dict[str, Any]) -> dict[str, Any]:
        about = content["environment"]
        return {**{name: about[name] for name in SAME}, **about["versions"], "threads": content["threads"]}

    before, after = facts(old), facts(new)
    return [
        f"{name}: {before.get(name)} before, {after.get(name)} now"
        for name in {**before, **after} if before.get(name) != after.get(name)
    ]  # fmt: skip
