"""`toolkit finetune`: a teacher out of any Hugging Face encoder, with a classification head, on a labelled task."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.manifest import Manifest
from toolkit.bundle.provenance import check_output
from toolkit.bundle.scores import ScoresBySplit, put_scores
from toolkit.config import FinetuneConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import resolve_task
from toolkit.data.splits import load_splits
from toolkit.data.truncation import measure_truncation, say_truncation
from toolkit.models.loading import Source, weights_digest
from toolkit.models.trial import check_classifier
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.dataset import EncodedDataset
from toolkit.training.defaults import with_length
from toolkit.training.reference import yardsticks
from toolkit.training.rounds import fit_while_rising
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.scoring import SplitScorer
from toolkit.training.supervised import SupervisedObjective
from toolkit.training.trainer import StageResult


def run_finetune(config: FinetuneConfig) -> Bundle:
    """Fine-tune `config.model` on a task and write its best epoch as a teacher bundle to `config.out`.

    Raises:
        ToolkitError: options, data or model that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_output(config, [config.model])
    patience, config = config.patience, config.resolved()
    by_rule = config.epochs is None
    options = DataOptions.of(config)
    task = resolve_task(config.task, config.data, options, title=config.name)
    splits = load_splits(
        task, config.data, options, selection_rows=config.selection_rows, max_rows=config.max_rows, seed=config.seed
    )
    splits.check_patience(patience)
    if splits.selection is None:
        config = replace(config, patience=None)
    with tempfile.TemporaryDirectory() as workdir:
        source = Source(config.model, Path(workdir))
        encoder = source.encoder(task, config.max_length)
        task = replace(task, max_length=encoder.max_length)
        import torch

        torch.manual_seed(config.seed)  # before loading: a new head is drawn there
        model = source.classifier(task)
        check_classifier(model, config.model)
        train, scorer = splits.learnt, SplitScorer(task, splits, encoder)
        encoded = encoder.encode(train.texts, train.pairs)
        config = with_length(config, len(train), len(task.labels), model.config.hidden_size)
        schedule = TrainingSchedule.from_config(config, config.epochs or 0, config.lr)
        truncation = {"train": measure_truncation(encoder, encoded, train.texts, train.pairs), **scorer.truncation}
        for name, counts in truncation.items():
            say_truncation(name, counts)
        rows = f"{len(train):,} rows, {splits.describe()}"
        echo(f"fine-tuning {config.model} on {task.name} ({task.answers}): {rows}")
        with Checkpoints(config.to_dict(), splits.digests | {"model": weights_digest(model)}) as checkpoints:
            stages = fit_while_rising(
                SupervisedObjective(model, task.kind), EncodedDataset(encoded, train.labels), schedule,
                scorer.selection_metric(model), checkpoints, further=by_rule,
            )  # fmt: skip
            scores = scorer.scores_of(scorer.logits(model))
            manifest = describe_teacher(config, source, scorer, scores, stages)
            bundle = write_model(config.out, manifest, model, source)
    for name, split in splits.scored.items():
        score = 100 * scores[name]["metrics"][task.metric]
        echo(f"teacher: {name} {task.metric} {score:.2f} ({yardsticks(task, train, split)})")
    echo(f"wrote {config.out}")
    return bundle


def describe_teacher(
    config: FinetuneConfig, source: Source, scorer: SplitScorer, scores: ScoresBySplit,
    stages: Mapping[str, StageResult],
) -> Manifest:  # fmt: skip
    """Make the manifest of a fine-tuned teacher."""
    task = scorer.task
    manifest = new_manifest(
        "teacher", task.to_dict(), max_length=task.max_length, parent=source.digest,
        made_from={"encoder": source.origin}, config=config.to_dict(), seed=config.seed, data=scorer.splits.digests,
    )  # fmt: skip
    put_scores(manifest, scores)
    manifest |= {
        "selection": scorer.selection, "stages": {name: result.to_dict() for name, result in stages.items()},
    }  # fmt: skip
    return manifest
