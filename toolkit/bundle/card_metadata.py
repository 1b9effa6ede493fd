"""The metadata at the top of a bundle's card, as the Hugging Face hub reads them: task, data, metrics, base model.

The format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Names of the hub stand in it only where the
manifest says that something came from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.manifest import Manifest, Origin
from toolkit.bundle.scores import scores_by_split
from toolkit.tasks import TASKS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

GLUE = "nyu-mll/glue"
HUB = "hub:"
OWN_TASKS = ("rotten-tomatoes",)  # of TASKS, those that are not GLUE's
LIBRARIES = {"onnx": "onnx"}  # by kind of bundle; every other is opened by transformers
METRIC_IDS = {"pearson": "pearsonr", "spearman": "spearmanr"}  # the hub's names, where they are not ours
DIGITS = 6  # of a metric, a fraction


@dataclass(frozen=True)
class Dataset:
    """The data of a task: a name for people, an identifier, and on the hub the name of its configuration."""

    name: str
    type: str
    config: str | None = None
    on_hub: bool = False


def metadata(manifest: Manifest, family: str | None) -> str:
    """Write the metadata of a bundle as YAML, between its two lines of dashes.

    Args:
        manifest: of the bundle.
        family: `model_type` of its configuration.
    """
    from huggingface_hub import ModelCardData

    task, data = manifest["task"], dataset(manifest)
    base, results = sorted(set(hub_models(manifest))), list(_results(manifest, data))
    tags = [family, manifest["kind"], manifest["precision"], "knowledge-distillation" if is_student(manifest) else None]
    card = ModelCardData(
        language="en" if task is not None and task["name"] in TASKS else None,  # all tasks of the table are English
        license=manifest.get("license"),
        library_name=LIBRARIES.get(manifest["kind"], "transformers"),
        pipeline_tag="feature-extraction" if task is None else "text-classification",
        tags=[*dict.fromkeys(filter(None, [*tags, "tinybert-toolkit"]))],
        base_model=base or None,
        datasets=[data.type] if data is not None and data.on_hub else None,
        metrics=None if task is None else [METRIC_IDS.get(name, name) for name in task["metrics"]],
        model_name=model_name(manifest) if results else None,
        eval_results=results or None,
    )
    return f"---\n{card.to_yaml()}\n---\n"


def model_name(manifest: Manifest) -> str:
    """Name a bundle by its task, kind and precision: a folder's own name may say more than its owner tells."""
    task = manifest["task"]
    return f"{_slug(task['name']) if task else 'general'}-{manifest['kind']}-{manifest['precision']}"


def dataset(manifest: Manifest) -> Dataset | None:
    """Tell the data set of a bundle's task from its name and its --data; None of a general student."""
    if manifest["task"] is None:
        return None
    name, source = manifest["task"]["name"], manifest["config"].get("data")
    if isinstance(source, str) and source.startswith(HUB):
        hub_name, _, config = source.removeprefix(HUB).partition(":")
        if not hub_name.startswith((".", "/")) and not Path(hub_name).is_dir():
            return Dataset(name, hub_name, config or None, on_hub=True)
    if source is None and name in TASKS and name not in OWN_TASKS:
        return Dataset(f"GLUE {name}", GLUE, name, on_hub=True)
    return Dataset(name, _slug(name))


def hub_models(record: Manifest | Origin) -> Iterator[str]:
    """Yield the names of the hub's models that a bundle was made from: those whose commit its manifest holds."""
    for origin in (record.get("made_from") or {}).values():
        if "revision" in origin:
            yield origin["name"]
        yield from hub_models(origin)


def is_student(record: Manifest | Origin) -> bool:
    """Tell whether a bundle was distilled, or exported from one that was."""
    return record["kind"] in ("student", "general") or any(map(is_student, (record.get("made_from") or {}).values()))


def _results(manifest: Manifest, data: Dataset | None) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    if data is None:
        return
    digests = manifest.get("data") or {}
    for split, scores in scores_by_split(manifest).items():
        for name, value in scores["metrics"].items():
            yield EvalResult(
                task_type="text-classification", dataset_type=data.type, dataset_name=data.name,
                dataset_config=data.config, dataset_split=split,
                dataset_args={"sha256": digests[split]} if split in digests else None,
                metric_type=METRIC_IDS.get(name, name), metric_value=round(float(value), DIGITS),
                metric_name=f"{split} {name.replace('_', ' ')}",
            )  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "own-data"
