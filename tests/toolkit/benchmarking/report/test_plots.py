"""Plots hold their numbers in words, and take their colours from the page."""

from __future__ import annotations

import re

from tests.support.bench import facts
from toolkit.benchmarking.report import plots
from toolkit.benchmarking.report.write import page
from toolkit.benchmarking.results import BatchPoint, Claim, LengthPoint, Report


def test_plots_take_their_colours_from_the_page(content: Report) -> None:
    svg = plots.sizes(content.models)
    assert "var(--ink)" in svg
    assert "var(--series-2)" in svg
    defined = set(re.findall(r"(--[\w-]+):", page(content)))
    assert set(re.findall(r"var\((--[\w-]+)\)", page(content))) <= defined
    # no colour of matplotlib's own is left that a dark page would swallow
    assert not re.findall(r"(?:fill|stroke): #(?!ffffff)[0-9a-f]{6}", page(content))


def test_a_line_ends_with_its_last_number_and_its_name_is_cut() -> None:
    long = "runs/" + "x" * 40
    lengths = [LengthPoint(model=long, length=n, samples_ms=[], median_ms=n / 7) for n in (32, 16)]
    drawn = plots.latency_by_length(lengths)
    assert "4.57 ms" in drawn
    assert "2.29 ms" not in drawn
    assert long not in drawn
    assert f"…{long[-21:]}" in drawn
    batches = [BatchPoint(model="m", batch_size=n, length=8, samples_ms=[], per_s=1000.0 * n) for n in (1, 4)]
    assert "4,000/s" in plots.throughput_by_batch(batches)


def test_a_claim_stands_beside_its_measurement() -> None:
    claim = Claim(claim="speed, fp32", model="m", required=9.4, measured=12.0, low=11.0, high=13.0, verdict="PASS")
    drawn = plots.ratios([claim])
    assert "12.00x of 9.4x" in drawn
    assert ">PASS<" in drawn


def test_parts_below_8_percent_have_no_words() -> None:
    parts = {"embeddings": 9_000_000, "attention": 500_000, "feed-forward": 2_000_000, "head": 0, "other": 0}
    drawn = plots.parts([facts("m", "tinybert4", part_bytes=parts, size_bytes=11_500_000)])
    assert "9 MB" in drawn
    assert "2 MB" in drawn
    assert "0.5 MB" not in drawn
