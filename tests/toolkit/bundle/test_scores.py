"""Scores stand in a manifest under the split that they are of."""

from __future__ import annotations

from typing import Any

from toolkit.bundle.scores import by_split, put_scores, split_of, teacher_metrics_on


def test_test_is_reported_and_dev_stands_beside_it() -> None:
    metrics: list[Any] = [{"dev": {"f1": i / 10}, "test": {"f1": i / 100}} for i in (8, 5, 9)]
    manifest: Any = {}
    own: Any = {split: {"metrics": values} for split, values in metrics[0].items()}
    classes = {"no": {"rows": 3, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}}
    own["test"]["by_class"] = classes
    put_scores(manifest, by_split(own, *metrics[1:]))
    assert manifest == {
        "split": "test", "metrics": {"f1": 0.08}, "start_metrics": {"f1": 0.05}, "teacher_metrics": {"f1": 0.09},
        "by_class": classes,
        "dev_scores": {"metrics": {"f1": 0.8}, "start_metrics": {"f1": 0.5}, "teacher_metrics": {"f1": 0.9}},
    }  # fmt: skip
    assert [teacher_metrics_on(manifest, split) for split in ("test", "dev")] == [{"f1": 0.09}, {"f1": 0.9}]


def test_dev_alone_is_reported_and_old_bundles_mean_it() -> None:
    manifest: Any = {}
    put_scores(manifest, {"dev": {"metrics": {"f1": 0.8}}})
    assert manifest == {"split": "dev", "metrics": {"f1": 0.8}}
    old: Any = {"metrics": {"f1": 0.7}, "teacher_metrics": {"f1": 0.9}}
    assert split_of(old) == "dev"
    assert teacher_metrics_on(old, "dev") == {"f1": 0.9}
    assert teacher_metrics_on(old, "test") is None
    assert teacher_metrics_on(manifest, "dev") is None
