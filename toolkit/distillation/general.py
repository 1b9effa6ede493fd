"""`toolkit distill --general`: a student learns to read as its teacher does, on plain text, before it learns any task.

The teacher is any pre-trained encoder, not fine-tuned; only its layers teach: attention, hidden states and embeddings
(arXiv 1909.10351, section 3.2). What is written is where the task stage starts: `toolkit distill --init DIR`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from toolkit.bundle.format import Bundle, check_target
from toolkit.config import DistillConfig
from toolkit.console import say
from toolkit.data.corpus import pack
from toolkit.distillation.attention_maps import attention_maps, describe
from toolkit.distillation.initialization.student import origins, save_projections, start_student
from toolkit.distillation.objectives import Intermediate, check_models
from toolkit.distillation.report import Phases, write_run_report
from toolkit.models.families import depth
from toolkit.models.loading import Source
from toolkit.models.student import Shape, layer_map
from toolkit.tasks import Task
from toolkit.training.checkpoints import Checkpoints, weights_digest
from toolkit.training.distributed import processes
from toolkit.training.precision import frozen, settle
from toolkit.training.saving import write_model
from toolkit.training.schedule import Schedule
from toolkit.training.trainer import Rows, fit

LENGTH = 128


def run_general(config: DistillConfig) -> Bundle:
    """Distil a general student from an encoder and write it, with its projections, as a bundle to `config.out`.

    Raises:
        ToolkitError: options, text or models that cannot be used, or a loss that is not finite.
    """
    config.check()
    check_target(Path(config.out))
    config, phases = config.resolved(), Phases()
    assert config.intermediate_epochs is not None
    with tempfile.TemporaryDirectory() as workdir:
        with phases("reading models"):
            source = Source(config.teacher, Path(workdir))
            teacher = source.encoder_model()
            check_models(config, source.config, teacher)
            made_from = origins(config, source)  # before hours of training: a damaged bundle is refused here
            mapping = layer_map(config.layer_map, depth(teacher), Shape.parse(config.student).layers)
            encoder = source.encoder(Task("general", (), max_length=LENGTH), config.max_length)
        with phases("tokenizing the corpus"), processes().main_process_first():
            packed = pack(
                config.corpus, source.tokenizer_dir / "tokenizer.json", length=encoder.max_length,
                stem=Path(config.out), max_rows=config.max_rows,
            )  # fmt: skip
        with phases("starting the student"):
            student, projections = start_student(config, source, teacher, mapping, packed, None)
        say(f"general distillation: {len(packed):,} rows of {packed.length} tokens, layers {mapping}")
        inputs = {"corpus": packed.record["sha256"], "teacher": weights_digest(teacher)}
        inputs |= {} if config.init in ("teacher", "random") else {"init": weights_digest(student)}
        with Checkpoints(config.to_json(), inputs) as checkpoints:
            objective = Intermediate(student, teacher, projections, mapping, config.weights, config.relation_heads)
            device = processes().device
            precision = settle(config.precision, device, float(packed.lengths.mean()))
            with phases("general distillation"), frozen(teacher, precision, device):
                fitted = fit(
                    objective, Rows(packed), Schedule.of(config, config.intermediate_epochs, config.intermediate_lr),
                    name="general", model=student, evaluate=None, checkpoints=checkpoints,
                )  # fmt: skip
            objective.close()
            manifest = {
                "kind": "general", "task": None, "precision": "fp32", "max_length": packed.length,
                "parent": source.digest, "made_from": made_from, "config": config.to_json(), "seed": config.seed,
                "metrics": {}, "layer_map": list(mapping), "stages": {"general": fitted.to_json()},
                "data": packed.record,
            }  # fmt: skip
            shown = describe(student, teacher)
            shown["attention"] = attention_maps(student, teacher, mapping, packed, encoder.tokens)

            def more(staging: Path) -> None:
                save_projections(projections, staging)
                write_run_report(manifest, phases, shown, staging)

            bundle = write_model(config.out, manifest, student, source, more)
    say(f"wrote {config.out}. Next: toolkit distill --teacher DIR --task TASK --init {config.out} --out DIR")
    return bundle
