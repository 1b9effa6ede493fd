"""The pages' tables of results, made from report files and never typed.

python -m benchmarks.publish collect runs/demo    what a finished demo left, into benchmarks/results/demo.json
python -m benchmarks.publish students DIR...      what students of a large teacher kept, into .../results/scale.json
python -m benchmarks.publish render               every section of README.md and docs/ between its markers
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.paths import ABLATIONS, AUGMENT, DEMO, GLUE, LOAD, RESULTS, ROOT, SCALE, SERVE, SIZES, SPEED, STEP
from toolkit.bundle.format import open_bundle


def collect(run: Path) -> dict[str, Any]:
    """The figures of a demo: its bundles' manifests and its bench report, without raw samples."""
    report = json.loads((run / "bench" / "report.json").read_text(encoding="utf-8"))
    models = {}
    for name in ("teacher", "student", "int8"):
        bundle = open_bundle(run / name)
        models[name] = {
            "metrics": bundle.manifest["metrics"], "size_bytes": bundle.weight_bytes, "digest": bundle.digest,
            "gates": bundle.manifest.get("gates"), "start_metrics": bundle.manifest.get("start_metrics"),
        }  # fmt: skip
    kept = {key: report[key] for key in ("created", "threads", "environment", "claims")}
    measured = {key: [_without_samples(one) for one in report[key]] for key in ("comparisons", "scenarios")}
    return {**kept, **measured, "models": models, "measured": report["models"]}


def student_figures(path: Path) -> dict[str, Any]:
    """What a finished student says of its teacher, its start and itself; dev in %."""
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    config, start, metric = report["config"], open_bundle(path).manifest["made_from"].get("start"), "accuracy"
    return {
        "init": f"a {start['kind']}" if start else config["init"], "task": config["task"], "seed": config["seed"],
        "epochs": [config["intermediate_epochs"], config["prediction_epochs"]], "metric": metric,
        **{name: 100 * report[f"{name}_metrics"][metric] for name in ("teacher", "start")},
        "student": 100 * report["metrics"][metric], "shapes": {one: report[one] for one in ("teacher", "student")},
    }  # fmt: skip


def _without_samples(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if "samples" not in key and key not in ("replicated", "trials")}


def sections() -> dict[str, str]:
    """Text by the name of its markers, from the stored results."""

    def load(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    demo = load(DEMO)
    base_mb = next(one["size_bytes"] for one in demo["measured"] if one["baseline"]) / 1e6
    return {
        "results": tables.front(demo), "glue": tables.glue(load(GLUE)), "scale": tables.scale(load(SCALE)),
        "sizes": tables.sizes(load(SIZES), base_mb), "runtimes": tables.runtimes(load(SPEED)),
        "ablations": tables.ablations(load(ABLATIONS)), "augmentation": tables.augmentation(load(AUGMENT)),
        "step": tables.step_speed(load(STEP)), "serving": tables.serving(load(LOAD)),
        "promises": tables.promises(*(load(RESULTS / f"serve_{name}.json") for name in SERVE)),
    }  # fmt: skip


def fill(page: str, found: dict[str, str]) -> str:
    """A page with its sections, from <!-- NAME --> to <!-- /NAME -->, as they are now."""
    for name, text in found.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = marked.sub(lambda ends, text=text: ends[1] + text + ends[2], page)
    return page


def _store(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Collect or render, as the module says."""
    match sys.argv[1:]:
        case ["collect", run]:
            _store(DEMO, collect(Path(run)))
        case ["students", *runs] if runs:
            _store(SCALE, [student_figures(Path(run)) for run in runs])
        case ["render"]:
            for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
                path.write_text(fill(path.read_text(encoding="utf-8"), sections()), encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
