"""Reading report.json: what was written comes back, and anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bench import BASE, INT8, comparison, report
from toolkit.benchmarking.report.read import parse_report, read_report
from toolkit.benchmarking.report.write import report_json
from toolkit.benchmarking.results import (
    BatchPoint,
    Claim,
    Kind,
    LengthPoint,
    LoadResult,
    Offline,
    Replication,
    Report,
    ServerLoad,
    SingleStream,
    Timing,
)
from toolkit.errors import ToolkitError
from toolkit.files import canonical_json


def whole_report() -> Report:
    """A report with an entry of every type."""
    entry = comparison(Kind.TOTAL, BASE, INT8, 3.0)
    timing = Timing(**{name: getattr(entry, name) for name in Timing.__dataclass_fields__})
    again = Replication(ratio=2.0, low=1.0, high=3.0, processes=1, runs=[timing])
    latencies = {"p50_ms": 1.0, "p90_ms": None, "p99_ms": None, "samples_ms": [1.0]}
    load = LoadResult(rate=1.0, requests=1, refused=0, **latencies)  # type: ignore[arg-type]
    about = {"model": "m", "score": None, "source": "s", "queries": 1}
    return replace(
        report(),
        comparisons=[replace(entry, replicated=again), replace(entry, rows=3, source="s", median_tokens=7.5)],
        claims=[Claim(claim="c", model="m", required=1.0, measured=2.0, low=1.5, high=2.5, verdict="PASS")],
        latency_by_length=[LengthPoint(model="m", length=8, samples_ms=[1.0], median_ms=1.0)],
        throughput_by_batch=[BatchPoint(model="m", batch_size=2, length=8, samples_ms=[1.0], per_s=2.0)],
        scenarios=[
            SingleStream(length=None, steady=True, **about, **latencies),  # type: ignore[arg-type]
            Offline(length=None, steady=False, texts_per_s=2.0, samples_per_s=[2.0], **about),  # type: ignore[arg-type]
            ServerLoad(length=None, bound_ms=9.0, highest_rate=None, trials=[load], **about, **vars(load)),  # type: ignore[arg-type]
        ],
    )


def test_what_was_written_is_read_and_written_again_the_same(tmp_path: Path) -> None:
    original = whole_report()
    text = canonical_json(report_json(original))
    (tmp_path / "report.json").write_bytes(text)
    again = read_report(tmp_path)
    assert again == original
    assert canonical_json(report_json(again)) == text
    assert isinstance(again.comparisons[0].kind, Kind)


@pytest.mark.parametrize("entry", ["models", "environment", "scenarios"])
def test_a_report_without_an_entry_is_none(tmp_path: Path, entry: str) -> None:
    content = report_json(whole_report())
    del content[entry]
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(ToolkitError, match="not a bench report"):
        read_report(tmp_path)


def test_a_kind_that_nobody_knows_is_refused() -> None:
    content = report_json(whole_report())
    content["comparisons"][0]["kind"] = "magic"
    with pytest.raises(ValueError, match="magic"):
        parse_report(content)


def test_only_reports_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(report_json(report()) | {"schema_version": 1}))
    (tmp_path / "list.json").write_text("[]")
    for name, words in (
        ("old.json", "schema version 1"),
        ("list.json", "not a bench report"),
        ("none", "not a bench report: No such file"),
    ):
        with pytest.raises(ToolkitError, match=words) as caught:
            read_report(tmp_path / name)
        assert caught.value.exit_code == 2
