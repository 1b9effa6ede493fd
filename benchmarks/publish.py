"""The tables and the picture of results in README.md and docs/, written from report files.

python -m benchmarks.publish collect runs/demo    writes the metrics of a finished demo to benchmarks/results/demo.json
python -m benchmarks.publish students DIR...      puts those of students of a large teacher into .../results/scale.json
python -m benchmarks.publish gpu FILE             writes what a GPU measured (benchmarks.gpu) to .../results/gpu.json
python -m benchmarks.publish logs DEMO TESTS      draws docs/demo.svg from what make demo printed; README.md shows it
python -m benchmarks.publish render               redraws docs/gain.svg, rewrites the sections of README.md and docs/
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import picture, tables
from benchmarks.distillation import tables as students
from benchmarks.gpu import table as gpu_table
from benchmarks.inference import tables as inference_tables
from benchmarks.paths import (
    ABLATIONS,
    AUGMENT,
    CALIBRATION,
    DEMO,
    GLUE,
    GPU,
    LOAD,
    PAPER_SIZE,
    PICTURE,
    RESULTS,
    ROOT,
    SCALE,
    SCORE,
    SERVE,
    SIZES,
    SPEED,
    STEP,
    TERMINAL,
    THRESHOLDS,
)
from benchmarks.starts import starts
from benchmarks.terminal import terminal
from benchmarks.transcript import demo_lines, transcript
from toolkit.bundle.format import open_bundle
from toolkit.data.datasets import load_split


def collect(run: Path) -> dict[str, Any]:
    """Read the metrics of a demo from its bundles' manifests and its bench report, without raw samples."""
    report = json.loads((run / "bench" / "report.json").read_text(encoding="utf-8"))
    models = {}
    for name in ("teacher", "student", "int8"):
        bundle = open_bundle(run / name)
        models[name] = {
            "split": bundle.split, "metrics": bundle.metrics, "digest": bundle.digest,
            "size_bytes": bundle.weight_bytes,
            "gates": bundle.manifest.get("gates"), "start_metrics": bundle.manifest.get("start_metrics"),
        }  # fmt: skip
    student = json.loads((run / "student" / "report.json").read_text(encoding="utf-8"))
    distillation = {
        "epochs": [student["config"][f"{stage}_epochs"] for stage in ("intermediate", "prediction")],
        "seconds": student["phases"], "shapes": {name: student[name]["shape"] for name in ("teacher", "student")},
        **{name: student["truncation"]["train"][name] for name in ("texts", "tokens")},
    }  # fmt: skip
    entries = {key: report[key] for key in ("created", "threads", "environment", "claims")}
    measured = {key: [_without_samples(row) for row in report[key]] for key in ("comparisons", "scenarios")}
    scored = load_split(bundle.task, bundle.split)
    return {
        **entries,
        **measured,
        "models": models,
        "measured": report["models"],
        "scored_rows": len(scored),
        "distillation": distillation,
    }


def student_metrics(path: Path) -> dict[str, Any]:
    """Read the metrics in % of a finished student, of its start and of its teacher."""
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    config, start, metric = report["config"], open_bundle(path).manifest["made_from"].get("start"), "accuracy"
    kinds = {"model": "an encoder", "teacher": "a fine-tuned encoder"}
    kind = kinds.get(start["kind"], f"a {start['kind']}") if start else config["init"]
    alone = "prediction=0" in config["loss"].split(",")
    return {
        "init": kind + (f", {students.LABELS_ALONE}" if alone else ""), "task": config["task"], "seed": config["seed"],
        "epochs": [config["intermediate_epochs"], config["prediction_epochs"]], "metric": metric,
        "split": report["split"],
        **{name: 100 * report[f"{name}_metrics"][metric] for name in ("teacher", "start")},
        "student": 100 * report["metrics"][metric], "shapes": {name: report[name] for name in ("teacher", "student")},
    }  # fmt: skip


def _without_samples(row: dict[str, Any]) -> dict[str, Any]:
    """Drop raw samples, and the folder of the machine at hand from the name of the data."""
    kept = {key: value for key, value in row.items() if "samples" not in key and key not in ("replicated", "trials")}
    return kept | ({"source": row["source"].rsplit("/", 1)[-1]} if row.get("source") else {})


def sections() -> dict[str, str]:
    """Return the text of each section, by the name of its markers, from the stored results."""

    def load(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    demo, glue, scale, ablations = load(DEMO), load(GLUE), load(SCALE), load(ABLATIONS)
    paper = load(PAPER_SIZE) if PAPER_SIZE.exists() else {"runs": []}
    base_mb = next(model["size_bytes"] for model in demo["measured"] if model["baseline"]) / 1e6
    gpu = {"gpu": gpu_table.all_parts(load(GPU)), "gpu-claim": gpu_table.claims(load(GPU))} if GPU.exists() else {}
    return gpu | {
        "results": tables.front(demo), "glue": students.glue(glue), "scale": students.scale(scale),
        "large-teacher": students.large_teacher(scale, paper), "paper-size": students.paper_size(paper),
        "starts": starts(glue, ablations, scale, demo),
        "sizes": tables.sizes(load(SIZES), base_mb), "runtimes": tables.runtimes(load(SPEED)),
        "ablations": students.ablations(ablations), "augmentation": students.augmentation(load(AUGMENT)),
        "step": students.step_speed(load(STEP)), "serving": tables.serving(load(LOAD)),
        "thresholds": inference_tables.thresholds(load(THRESHOLDS)), "scoring": inference_tables.scoring(load(SCORE)),
        "calibration": inference_tables.calibration(load(CALIBRATION)),
        "promises": tables.promises(*(load(RESULTS / f"serve_{name}.json") for name in SERVE)),
    }  # fmt: skip


def fill(page: str, texts: dict[str, str]) -> str:
    """Replace the sections of a page, each from <!-- NAME --> to <!-- /NAME -->."""
    for name, text in texts.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page = marked.sub(lambda ends, text=text: ends[1] + text + ends[2], page)
    return page


def _store(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command that the arguments name."""
    match sys.argv[1:]:
        case ["collect", run]:
            _store(DEMO, collect(Path(run)))
        case ["students", *runs] if runs:
            stored = json.loads(SCALE.read_text(encoding="utf-8"))
            rows = {(row["init"], row["seed"]): row for row in [*stored, *(student_metrics(Path(run)) for run in runs)]}
            _store(SCALE, list(rows.values()))
        case ["gpu", report]:
            _store(GPU, gpu_table.without_samples(json.loads(Path(report).read_text(encoding="utf-8"))))
        case ["logs", demo, tests]:
            lines = demo_lines(Path(demo).read_text(encoding="utf-8"))
            TERMINAL.write_text(terminal(lines), encoding="utf-8")
            text = transcript(str(TERMINAL.relative_to(ROOT)), lines, Path(tests).read_text(encoding="utf-8"))
            readme = ROOT / "README.md"
            readme.write_text(fill(readme.read_text(encoding="utf-8"), {"demo": text}), encoding="utf-8")
        case ["render"]:
            PICTURE.write_text(picture.gain(json.loads(DEMO.read_text(encoding="utf-8"))), encoding="utf-8")
            for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
                path.write_text(fill(path.read_text(encoding="utf-8"), sections()), encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
