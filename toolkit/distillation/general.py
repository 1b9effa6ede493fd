"""`toolkit distill --general`: a student learns to read as its teacher does, on plain text, before it learns any task.

The teacher is any pre-trained encoder, not fine-tuned; only its layers teach: attention, hidden states and embeddings
(arXiv 1909.10351, section 3.2). What is written is where the task stage starts: `toolkit distill --init DIR`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from toolkit.bundle.format import Bundle, check_output_path
from toolkit.config import DistillConfig
from toolkit.console import echo
from toolkit.data.corpus import pack_corpus
from toolkit.distillation.attention_maps import attention_maps, describe
from toolkit.distillation.initialization.student import initialize_student, provenance_of, save_projections
from toolkit.distillation.objectives import IntermediateObjective, check_models
from toolkit.distillation.report import PhaseTimer, write_run_report
from toolkit.models.families import depth
from toolkit.models.loading import Source
from toolkit.models.student import Shape, layer_map
from toolkit.tasks import Task
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.distributed import distributed_state
from toolkit.training.precision import bf16_frozen_weights, resolve_precision
from toolkit.training.saving import write_model
from toolkit.training.schedule import TrainingSchedule
from toolkit.training.trainer import EncodedDataset, fit

LENGTH = 128


def run_general(config: DistillConfig) -> Bundle:
    """Distil a general student from an encoder and write it, with its projections, as a bundle to `config.out`.

    Raises:
        ToolkitError: options, text or models that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_output_path(Path(config.out))
    config, phases = config.resolved(), PhaseTimer()
    assert config.intermediate_epochs is not None
    with tempfile.TemporaryDirectory() as workdir:
        with phases("reading models"):
            source = Source(config.teacher, Path(workdir))
            teacher = source.encoder_model()
            check_models(config, source.config, teacher)
            made_from = provenance_of(config, source)  # before hours of training: a damaged bundle is refused here
            mapping = layer_map(config.layer_map, depth(teacher), Shape.parse(config.student).layers)
            encoder = source.encoder(Task("general", (), max_length=LENGTH), config.max_length)
        with phases("tokenizing the corpus"), distributed_state().main_process_first():
            packed = pack_corpus(
                config.corpus, source.tokenizer_dir / "tokenizer.json", length=encoder.max_length,
                stem=Path(config.out), max_rows=config.max_rows,
            )  # fmt: skip
        with phases("starting the student"):
            student, projections = initialize_student(config, source, teacher, mapping, packed, None)
        echo(f"general distillation: {len(packed):,} rows of {packed.length} tokens, layers {mapping}")
        inputs = {"corpus": packed.record["sha256"], "teacher": weights_digest(teacher)}
        inputs |= {} if config.init in ("teacher", "random") else {"init": weights_digest(student)}
        with Checkpoints(config.to_dict(), inputs) as checkpoints:
            objective = IntermediateObjective(
                student, teacher, projections, mapping, config.weights, config.relation_heads
            )
            device = distributed_state().device
            precision = resolve_precision(config.precision, device, float(packed.lengths.mean()))
            with phases("general distillation"), bf16_frozen_weights(teacher, precision, device):
                fitted = fit(
                    objective, EncodedDataset(packed),
                    TrainingSchedule.from_config(config, config.intermediate_epochs, config.intermediate_lr),
                    name="general", model=student, evaluate=None, checkpoints=checkpoints,
                )  # fmt: skip
            objective.close()
            manifest = {
                "kind": "general", "task": None, "precision": "fp32", "max_length": packed.length,
                "parent": source.digest, "made_from": made_from, "config": config.to_dict(), "seed": config.seed,
                "metrics": {}, "layer_map": list(mapping), "stages": {"general": fitted.to_dict()},
                "data": packed.record,
            }  # fmt: skip
            shown = describe(student, teacher)
            shown["attention"] = attention_maps(student, teacher, mapping, packed, encoder.tokens)

            def more(staging: Path) -> None:
                save_projections(projections, staging)
                write_run_report(manifest, phases, shown, staging)

            bundle = write_model(config.out, manifest, student, source, more)
    echo(f"wrote {config.out}. Next: toolkit distill --teacher DIR --task TASK --init {config.out} --out DIR")
    return bundle
