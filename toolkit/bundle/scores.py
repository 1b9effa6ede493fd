"""The scores in a manifest, by split."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.bundle.manifest import Manifest, Metrics, ScoredSplit, Scores

ScoresBySplit = dict[ScoredSplit, Scores]


def by_split(
    scores: ScoresBySplit, start: Mapping[ScoredSplit, Metrics], teacher: Mapping[ScoredSplit, Metrics]
) -> ScoresBySplit:
    """Put the metrics of a model's start beside its own on each split, and those of its teacher where it answered."""
    return {
        split: {**of_split, "start_metrics": start[split], "teacher_metrics": teacher.get(split, {})}
        for split, of_split in scores.items()
    }


def put_scores(manifest: Manifest, scores: ScoresBySplit) -> None:
    """Write scores into a manifest: those of test where there are any, and those of dev beside them; else dev's."""
    split: ScoredSplit = "test" if "test" in scores else "dev"
    reported = scores[split]
    manifest["split"], manifest["metrics"] = split, reported["metrics"]
    if "start_metrics" in reported:
        manifest["start_metrics"] = reported["start_metrics"]
    if "teacher_metrics" in reported:
        manifest["teacher_metrics"] = reported["teacher_metrics"]
    if classes := reported.get("by_class"):
        manifest["by_class"] = classes
    if split == "test":
        manifest["dev_scores"] = scores["dev"]


def split_of(manifest: Manifest) -> ScoredSplit:
    """Name the split of a manifest's metrics; those of a bundle that does not say are dev's."""
    return manifest.get("split", "dev")


def scores_by_split(manifest: Manifest) -> ScoresBySplit:
    """Give the scores in a manifest by split, the reported one first."""
    scores: ScoresBySplit = {split_of(manifest): manifest}
    return scores | ({"dev": manifest["dev_scores"]} if "dev_scores" in manifest else {})


def teacher_metrics_on(manifest: Manifest, split: ScoredSplit) -> Metrics | None:
    """Give the metrics of a student's teacher on a split; None where the manifest has none of that split."""
    scores = scores_by_split(manifest).get(split)
    return None if scores is None else scores.get("teacher_metrics")
