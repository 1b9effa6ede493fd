"""`toolkit finetune`: a teacher out of any Hugging Face encoder, with a classification head, on a labelled task."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.provenance import check_output
from toolkit.config import FinetuneConfig
from toolkit.console import echo
from toolkit.data.columns import DataOptions
from toolkit.data.datasets import load_split, resolve_task
from toolkit.data.truncation import measure_truncation, say_truncation
from toolkit.metrics import evaluate
from toolkit.models.loading import Source
from toolkit.models.trial import check_classifier
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.dataset import EncodedDataset
from toolkit.training.defaults import with_length
from toolkit.training.distributed import model_logits
from toolkit.training.reference import yardsticks
from toolkit.training.rounds import fit_while_rising
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.supervised import SupervisedObjective


def run_finetune(config: FinetuneConfig) -> Bundle:
    """Fine-tune `config.model` on a task and write the best dev epoch as a teacher bundle to `config.out`.

    Raises:
        ToolkitError: options, data or model that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_output(config, [config.model])
    config = config.resolved()
    by_rule = config.epochs is None
    options = DataOptions.of(config)
    task = resolve_task(config.task, config.data, options, title=config.name)
    train = load_split(task, "train", config.data, options, max_rows=config.max_rows, seed=config.seed)
    dev = load_split(task, "dev", config.data, options)
    with tempfile.TemporaryDirectory() as workdir:
        source = Source(config.model, Path(workdir))
        encoder = source.encoder(task, config.max_length)
        task = replace(task, max_length=encoder.max_length)
        import torch

        torch.manual_seed(config.seed)  # before loading: a new head is drawn there
        model = source.classifier(task)
        check_classifier(model, config.model)
        train_encoded, dev_encoded = (encoder.encode(split.texts, split.pairs) for split in (train, dev))
        dataset = EncodedDataset(train_encoded, train.labels)
        config = with_length(config, len(train), len(task.labels), model.config.hidden_size)
        schedule = TrainingSchedule.from_config(config, config.epochs or 0, config.lr)
        say_truncation("train", measure_truncation(encoder, train_encoded, train.texts, train.pairs))
        say_truncation("dev", measure_truncation(encoder, dev_encoded, dev.texts, dev.pairs))
        echo(f"fine-tuning {config.model} on {task.name}: {len(train):,} rows, {len(dev):,} for dev")

        def dev_metric() -> float:
            return evaluate(task, model_logits(model, dev_encoded), dev.labels)[task.metric]

        inputs = {"train": train.digest, "dev": dev.digest}
        with Checkpoints(config.to_dict(), inputs | {"model": weights_digest(model)}) as checkpoints:
            stages = fit_while_rising(
                SupervisedObjective(model, task.kind), dataset, schedule, dev_metric, checkpoints, further=by_rule
            )
            metrics = evaluate(task, model_logits(model, dev_encoded), dev.labels)
            manifest = new_manifest(
                "teacher", task.to_dict(), max_length=task.max_length, parent=source.digest,
                made_from={"encoder": source.origin}, config=config.to_dict(), seed=config.seed, data=inputs,
                metrics=metrics,
            )  # fmt: skip
            manifest["stages"] = {name: result.to_dict() for name, result in stages.items()}
            bundle = write_model(config.out, manifest, model, source)
    echo(f"teacher: dev {task.metric} {100 * metrics[task.metric]:.2f} ({yardsticks(task, train, dev)})")
    echo(f"wrote {config.out}")
    return bundle
