"""Two reports held against each other: every program that got slower, beyond what noise explains.

The ratios that are compared were measured within one process each: a program against its yardstick. The speed of the
machine on the day cancels out of them. A program and its yardstick that slow down alike go unseen, so their
milliseconds stand beside. A ratio fell beyond noise when the 95 % interval of new / old, a bootstrap of both reports'
raw samples, is wholly below 1 by more than MIN_CHANGE and by more than the A/A controls of both reports are off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.benchmarking.report.claims import control_widening
from toolkit.benchmarking.report.tables import milliseconds
from toolkit.benchmarking.results import Comparison, Kind, Report, Side
from toolkit.errors import ToolkitError
from toolkit.measurement.statistics import changed_ratio
from toolkit.reports.table import Table

MIN_CHANGE = 1.05  # two processes of one program differ by this much: where their memory lies, what else runs
SAME = ("cpu", "python", "gpu")
Key = tuple[Kind, int, int | None, tuple[str, str, str], tuple[str, str, str]]


@dataclass(frozen=True)
class Regressions:
    """Differences between two reports.

    Attributes:
        table: every comparison that both reports have.
        slower: a line for each comparison that got slower beyond noise.
        compared: how many comparisons both have.
        notes: differences between the machines and the options.
    """

    table: Table
    slower: list[str]
    compared: int
    notes: list[str]


def regressions(old: Report, new: Report) -> Regressions:
    """Compare every comparison that both reports have.

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
        then, now = before[key], after[key]
        change = changed_ratio(_ratios(then), _ratios(now))
        noise = max(MIN_CHANGE, _disturbance(old, then) * _disturbance(new, now))
        fell, rose = change.high < 1 / noise, change.low > noise
        name = f"{now.kind}: {now.b.label} over {now.a.label}, batch {now.batch_size}"
        rows.append([
            name, f"{then.ratio:.2f}x", f"{now.ratio:.2f}x",
            f"{change.value:.2f} [{change.low:.2f}, {change.high:.2f}]", f"{noise:.2f}x",
            f"{milliseconds(then.b_median_ms)} to {milliseconds(now.b_median_ms)}",
            "slower" if fell else "faster" if rose else "same",
        ])  # fmt: skip
        if fell:
            slower.append(f"{name}: {then.ratio:.2f}x before, {now.ratio:.2f}x now, {noise:.2f}x is noise")
    columns = ["comparison", "old", "new", "new / old [95 %]", "noise", "ms", "verdict"]
    return Regressions(Table("Old against new", columns, rows), slower, len(shared), list(_differences(old, new)))


def _by_key(report: Report) -> dict[Key, Comparison]:
    """Comparisons by what was compared. Bundles go by their architecture: their paths may differ between reports."""
    names = {model.name: model.architecture for model in report.models}

    def key(side: Side) -> tuple[str, str, str]:
        return names.get(side.model, side.model), side.runtime, side.precision

    return {
        (comparison.kind, comparison.batch_size, comparison.length, key(comparison.a), key(comparison.b)): comparison
        for comparison in report.comparisons if comparison.kind != Kind.CONTROL
    }  # fmt: skip


def _ratios(comparison: Comparison) -> np.ndarray:
    return np.asarray(np.array(comparison.a_samples_ms) / np.array(comparison.b_samples_ms))


def _disturbance(report: Report, comparison: Comparison) -> float:
    """The factor that the A/A control of the compared architecture is off by."""
    name = comparison.b.model
    architecture = next((model.architecture for model in report.models if model.name == name), name)
    return control_widening(report.comparisons, architecture, comparison.batch_size)


def _differences(old: Report, new: Report) -> Iterator[str]:
    def facts(report: Report) -> dict[str, object]:
        machine = report.environment
        return {**{name: machine[name] for name in SAME}, **machine["versions"], "threads": report.threads}

    before, after = facts(old), facts(new)
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name)} before, {after.get(name)} now"
