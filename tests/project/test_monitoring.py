"""The alerts and the dashboard ask for what /metrics of a server with everything really shows."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.engine.limits import Limits
from tests.support.data import rows
from tests.support.paths import ROOT
from toolkit.config import ServeConfig

FOLDER = ROOT / "monitoring"
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in json.loads((FOLDER / "dashboard.json").read_text("utf-8"))["panels"] if "targets" in panel]
DOCUMENTED = ROOT / "docs" / "operations.md"
WORDS = {
    "sum", "max", "rate", "increase", "histogram_quantile", "max_over_time", "and", "by", "on", "ignoring",
    "group_left",
}  # fmt: skip
Shown = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def shown(watched: Path, tiny_onnx: Path) -> Shown:
    """The values of each label of each sample in /metrics."""
    config = ServeConfig((f"films={watched}",), threshold=0.9, fallback=f"big={tiny_onnx}", audit_share=0.1)
    samples: dict[str, dict[str, set[str]]] = {}
    with TestClient(create_app(config=config, limits=Limits(workers=1))) as client:
        client.post("/predict", json={"inputs": [[text] for text, _ in rows(32, seed=51)]})
        # as it stands: prometheus_client's own parser would give counters another name
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", client.get("/metrics").text, re.MULTILINE):
            values = samples.setdefault(name, defaultdict(set))
            for label, value in re.findall(r'(\w+)="(.*?)"', labels):
                values[label].add(value)
    return samples


def problems(expression: str, shown: Shown) -> Iterator[str]:
    """Names of metrics, labels and values in PromQL that no sample has, and words that are none of PromQL."""
    rest = re.sub(r"\[[^\]]*\]", "", expression)
    for metric, matchers in re.findall(r"(\w+)\{(.*?)\}", rest):
        for label, operator, values in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', matchers):
            if label not in shown.get(metric, {}):
                yield f"{metric} has no label {label}"
            elif operator != "!~" and values != "$model":
                yield from (f"{label} is never {value}" for value in {*values.split("|")} - shown[metric][label])
    rest = re.sub(r"\{.*?\}", "", rest)
    labels = {label for values in shown.values() for label in values}
    for listed in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", rest):
        yield from (f"no metric has the label {label}" for label in {*listed.split(", ")} - labels)
    rest = re.sub(r"\b(by|on|ignoring) \([^)]*\)", r"\1", rest)
    yield from (f"{name} is not shown" for name in re.findall(r"\b[a-z]\w*", rest) if name not in WORDS | {*shown})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_asks_for_what_is_shown(rule: dict[str, Any], shown: Shown) -> None:
    assert list(problems(rule["expr"], shown)) == []
    assert {*rule} - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("page", "ticket")
    for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
        assert label in rule["expr"], "the alert has this label"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_asks_for_what_is_shown(panel: dict[str, Any], shown: Shown) -> None:
    for target in panel["targets"]:
        assert list(problems(target["expr"], shown)) == []
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert label in target["expr"]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(te_request_counts[5m])", "te_request_counts is not shown"),
        ("averag(te_queue_size)", "averag is not shown"),
        ('te_fallback_inputs{result="answered"}', "te_fallback_inputs has no label result"),
        ('te_fallback_inputs{outcome=~"answered|agreed"}', "outcome is never agreed"),
        ("sum by (modell) (te_drift_inputs)", "no metric has the label modell"),
    ],
)
def test_what_is_not_shown_is_noticed(expression: str, problem: str, shown: Shown) -> None:
    assert list(problems(expression, shown)) == [problem]


def test_panels_stand_side_by_side_and_everything_of_the_service_is_on_one(shown: Shown) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
    asked = {name for panel in PANELS for target in panel["targets"] for name in re.findall(r"te_\w+", target["expr"])}
    families = ("te_predict_label", "te_predict_confidence", "te_drift", "te_fallback", "te_audit", "te_predict_unsure")
    for name in (name for name in shown if name.startswith(families)):
        base = re.sub("_(sum|count|bucket|created)$", "", name)
        assert asked & {name, base, f"{base}_count", f"{base}_bucket"}, name


def test_the_alerts_in_the_documentation_are_those_of_the_file() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
    listed = [block for text in blocks if isinstance(block := yaml.safe_load(text), list)]
    assert listed
    for rule in (rule for block in listed for rule in block):
        assert rule in RULES
