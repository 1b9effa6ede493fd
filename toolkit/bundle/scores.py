"""The scores in a manifest, by split."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.bundle.manifest import Manifest, Metrics, ScoredSplit, Scores

ScoresBySplit = dict[ScoredSplit, Scores]


def by_split(
    metrics: Mapping[ScoredSplit, Metrics], start: Mapping[ScoredSplit, Metrics], teacher: Mapping[ScoredSplit, Metrics]
) -> ScoresBySplit:
    """Gather the metrics of a model, of its start and of its teacher on each split, where it answered."""
    return {
        split: {"metrics": values, "start_metrics": start[split], "teacher_metrics": teacher.get(split, {})}
        for split, values in metrics.items()
    }


def put_scores(manifest: Manifest, scores: ScoresBySplit) -> None:
    """Write scores into a manifest: those of test where there are any, and those of dev beside them; else dev's."""
    split: ScoredSplit = "test" if "test" in scores else "dev"
    own = scores[split]
    manifest["split"], manifest["metrics"] = split, own["metrics"]
    if "start_metrics" in own:
        manifest["start_metrics"] = own["start_metrics"]
    if "teacher_metrics" in own:
        manifest["teacher_metrics"] = own["teacher_metrics"]
    if split == "test":
        manifest["dev_scores"] = scores["dev"]


def split_of(manifest: Manifest) -> ScoredSplit:
    """Name the split of a manifest's metrics; those of a bundle that does not say are dev's."""
    return manifest.get("split", "dev")


def teacher_metrics_on(manifest: Manifest, split: ScoredSplit) -> Metrics | None:
    """Give the metrics of a student's teacher on a split; None where the manifest has none of that split."""
    if split_of(manifest) == split:
        return manifest.get("teacher_metrics")
    return manifest["dev_scores"].get("teacher_metrics") if split == "dev" and "dev_scores" in manifest else None
