"""Options of `toolkit compress`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.config.base import (
    LOCAL,
    Config,
    argument,
    at_least,
    column_option,
    data_problems,
    dev_share_option,
    is_cluster,
    name_option,
    option,
    positive,
    ray_option,
    required,
    skip_option,
    task_problems,
)


@dataclass(frozen=True)
class CompressConfig(Config):
    """Options of `toolkit compress`."""

    teacher: str = argument("model to compress: a bundle, a directory or a name on the hub", "TEACHER")
    task: str = required("task of the teacher: a GLUE task, rotten-tomatoes, or auto with --data", "Data", "TASK")
    out: str = required("directory of the search; the bundle is its int8", "Output", "DIR")
    max_latency_ms: float | None = option(
        None, "milliseconds that a text may take on this CPU, the mean over texts as long as the data's", "Budget", "MS"
    )
    max_size_mb: float | None = option(None, "megabytes of the graph with its weights", "Budget", "MB")
    max_drop: float | None = option(
        None, "percentage points of the task's metric that may be lost against the teacher on dev [default: any]",
        "Budget", "POINTS",
    )  # fmt: skip
    threads: int = option(1, "threads that the bundle will run with", "Budget")
    hours: float = option(
        2.0, "time of the whole search; what finishes the bundle is set aside of it, and always runs", "Budget", "HOURS"
    )
    data: str | None = option(None, "folder with train, dev, perhaps test files, one file, or hub:NAME", "Data", "DATA")
    unlabelled: str | None = option(None, "more text of the task's kind, as distill takes it", "Data", "FILE")
    trim_vocabulary: tuple[str, ...] = option(
        (),
        "text like what the model will read: where --max-size-mb needs it, only word pieces that this text and the "
        "train rows need are kept, as export does; may be given more than once",
        "Data",
        "FILE",
    )
    name: str | None = name_option()
    text_column: str | None = column_option("text")
    pair_column: str | None = column_option("pair")
    label_column: str | None = column_option("label")
    dev_share: float | None = dev_share_option()
    skip_bad_rows: bool = skip_option()
    allow_weak_teacher: bool = option(
        False, "accept a teacher that is no better than the most frequent label", "Teacher"
    )
    match_labels: bool = option(False, "read the teacher's outputs in the order that fits the labels", "Teacher")
    seed: int = option(42, "seed of every random draw", "Output")
    list: bool = option(False, "show what a search in --out has tried, finished or stopped", "Output")
    pick: int | None = option(
        None, "finish the student that --list shows with this number, and make it the bundle", "Output", "N"
    )
    ray: str | None = ray_option("train several students at the same time", "Cluster")
    ray_cpus: int | None = option(
        None, "CPUs of each training on the cluster [default: the threads that PyTorch takes here]", "Cluster"
    )
    dry_run: bool = option(False, "say what would be tried and how long it takes, and train nothing", "Output")

    def problems(self) -> Iterator[str]:
        """List each problem in words."""
        if self.max_latency_ms is None and self.max_size_mb is None:
            yield "no budget: expected --max-latency-ms, --max-size-mb or both"
        yield from positive(max_latency_ms=self.max_latency_ms, max_size_mb=self.max_size_mb, hours=self.hours)
        if self.trim_vocabulary and self.max_size_mb is None:
            yield "--trim-vocabulary without --max-size-mb: expected the limit that may need fewer word pieces"
        if self.max_drop is not None and not self.max_drop >= 0:
            yield f"--max-drop {self.max_drop}: expected 0 or more points"
        yield from at_least(1, threads=self.threads, pick=self.pick, ray_cpus=self.ray_cpus)
        if sum((self.list, self.dry_run, self.pick is not None)) > 1:
            yield "--list, --pick and --dry-run go alone"
        if self.ray is not None and not is_cluster(self.ray):
            yield f"--ray {self.ray}: expected HOST:PORT, auto or {LOCAL}"
        if self.ray_cpus is not None and self.ray is None:
            yield f"--ray-cpus {self.ray_cpus} without --ray: expected the cluster that it is about"
        yield from at_least(0, seed=self.seed)
        yield from task_problems(self.task, self.data, "train and dev files")
        yield from data_problems(self)
        if self.name is not None and self.task != "auto":
            yield f"--name {self.name}: expected --task auto, as others have names"
