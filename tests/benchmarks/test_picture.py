"""README's picture: what it says is what the demo measured."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from benchmarks.paths import DEMO, PICTURE, ROOT
from benchmarks.picture import LONGEST, gain

SVG = "{http://www.w3.org/2000/svg}"


def measured(p50_ms: tuple[float, float, float], sizes: tuple[int, int, int]) -> str:
    single = [
        {"model": name, "scenario": "single", "length": None, "p50_ms": time}
        for name, time in zip(
            ("BERT-base, fp32 ONNX", "tinybert4, fp32 ONNX", "int8 <1>, int8 ONNX"), p50_ms, strict=True
        )
    ]
    models = {
        name: {"size_bytes": size, "metrics": {"accuracy": accuracy}}
        for name, size, accuracy in zip(("teacher", "student", "int8"), (0, *sizes[1:]), (0.8, 0.8, 0.7), strict=True)
    }
    base = {"baseline": True, "name": "BERT-base", "size_bytes": sizes[0]}
    return gain({
        "measured": [base], "scenarios": single, "models": models, "threads": 2, "environment": {"cpu": "A & B"},
    })  # fmt: skip


def test_figures_and_lengths_are_those_of_the_results() -> None:
    page = ET.fromstring(measured((20.0, 5.0, 0.5), (400_000_000, 50_000_000, 10_000_000)))
    texts = [element.text for element in page.iter(f"{SVG}text")]
    assert texts[:2] == [
        "40x faster and 40x smaller than BERT-base", "TinyBERT4 in int8 keeps 87.5 % of its teacher's accuracy."
    ]  # fmt: skip
    assert {"20 ms", "5 ms, 4.0x less", "0.5 ms, 40.0x less", "400 MB", "50 MB, 8.0x less", "10 MB, 40.0x less"} <= set(
        texts
    )
    assert "milliseconds a text, in ONNX Runtime on 2 threads of A & B" in texts
    widths = [float(bar.attrib["width"]) for bar in page.iter(f"{SVG}rect")]
    assert widths == [LONGEST, LONGEST / 4, LONGEST / 40, LONGEST, LONGEST / 8, LONGEST / 40]


def test_the_picture_is_drawn_from_the_stored_results() -> None:
    assert PICTURE.read_text(encoding="utf-8") == gain(json.loads(DEMO.read_text(encoding="utf-8")))
    assert f"({PICTURE.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")
