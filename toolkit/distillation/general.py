"""`toolkit distill --general`: a student learns to read as its teacher does, on plain text, before any task.

The teacher is any pre-trained encoder, not fine-tuned; its layers alone teach: attention, hidden states and embeddings
(arXiv 1909.10351, section 3.2). The task stage starts from the bundle: `toolkit distill --init DIR`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from toolkit.bundle.format import Bundle, new_manifest
from toolkit.bundle.provenance import check_output
from toolkit.config import COMPUTED, DistillConfig
from toolkit.console import echo
from toolkit.data.corpus import PackedCorpus, pack_corpus
from toolkit.data.tokenization import TextEncoder
from toolkit.distillation.initialization.student import (
    ModelPair,
    initialize_student,
    is_student,
    provenance_of,
    save_projections,
)
from toolkit.distillation.recording_check import check_recording
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.distillation.stages import train_layers
from toolkit.distillation.teaching import open_start
from toolkit.errors import ToolkitError
from toolkit.models.loading import Source
from toolkit.models.student import plan_student
from toolkit.tasks import Task
from toolkit.training.checkpoints import Checkpoints
from toolkit.training.distributed import distributed_state
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule

LENGTH = 128  # tokens of a row


def run_general(config: DistillConfig) -> Bundle:
    """Distil a general student from an encoder and write it, with its projections, as a bundle to `config.out`.

    Raises:
        ToolkitError: options, text or models that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_output(config, config.sources)
    config, phases = config.resolved(), PhaseTimer()
    assert config.intermediate_epochs is not None
    with tempfile.TemporaryDirectory() as workdir:
        source, models, corpus, encoder = prepare(config, Path(workdir), phases)
        made_from = provenance_of(source, models.init)  # before hours of training: a damaged bundle is refused here
        with Checkpoints(config.to_dict(), {"corpus": corpus.record["sha256"]} | models.digests()) as checkpoints:
            schedule = TrainingSchedule.from_config(config, config.intermediate_epochs, config.intermediate_lr)
            with phases("general distillation"):
                result = train_layers(
                    "general", models, corpus, schedule, checkpoints, weights=config.weights,
                    relation_heads=config.relation_heads,
                )  # fmt: skip
            manifest = new_manifest(
                "general", None, max_length=corpus.length, parent=source.digest, made_from=made_from,
                config=config.to_dict(), seed=config.seed, data=corpus.record,
            )  # fmt: skip
            manifest |= {"layer_map": list(models.mapping), "stages": {"general": result.to_dict()}}

            def write_more(staging: Path) -> None:
                if models.projections is not None:
                    save_projections(models.projections, staging)
                write_run_report(manifest, phases, models, corpus, encoder, staging)

            bundle = write_model(config.out, manifest, models.student, source, write_more)
    echo(f"wrote {config.out}. Next: toolkit distill --teacher DIR --task TASK --init {config.out} --out DIR")
    return bundle


def prepare(
    config: DistillConfig, workdir: Path, phases: PhaseTimer
) -> tuple[Source, ModelPair, PackedCorpus, TextEncoder]:
    """Read the teacher, tokenize the corpus, and initialize the student."""
    with phases("reading models"):
        source = Source(str(config.teacher), workdir)
        teacher = source.encoder_model()
        plan = plan_student(
            teacher, shape=config.student, layers=config.layer_map, init=config.init, weights=config.weights,
            relation_heads=config.relation_heads, family=config.student_family,
        )  # fmt: skip
        check_recording(teacher, source.name)
        start = None if plan.init in COMPUTED else open_start(plan.init, workdir)
        if start is not None and not is_student(start, plan):
            raise ToolkitError(
                f"--general with --init {plan.init}, which is no student of {plan.shape}: it learns one model's layers",
                expected="teacher, random, or a student to go on with", fix=f"--teacher {plan.init} without --init",
            )  # fmt: skip
        encoder = source.encoder(Task("general", (), max_length=LENGTH), config.max_length)
    with phases("tokenizing the corpus"), distributed_state().main_process_first():
        corpus = pack_corpus(
            config.corpus, source.tokenizer_dir / "tokenizer.json", length=encoder.max_length,
            stem=Path(config.out), max_rows=config.max_rows,
        )  # fmt: skip
    with phases("starting the student"):
        models = initialize_student(
            plan, source, teacher, teacher, corpus, None, start=start, dropout=config.dropout,
            shared_projection=config.shared_projection, precision=config.precision, seed=config.seed,
        )  # fmt: skip
    echo(f"general distillation: {len(corpus):,} rows of {corpus.length} tokens, layers {plan.mapping}")
    return source, models, corpus, encoder
