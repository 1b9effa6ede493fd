"""The baseline of an export: what its own graph answers to dev rows, for a server to see drift by."""

from __future__ import annotations

from export.calibration_data import SEED
from export.verify import BATCH_SIZE, GraphVerifier
from toolkit.bundle.baseline import Baseline
from toolkit.console import echo
from toolkit.data.tokenization import TextEncoder
from toolkit.inference.drift import Traits, make_baseline
from toolkit.inference.runtimes import Runtime, batched_logits

FEWEST, MOST = 200, 5_000  # rows: fewer would differ from any others by chance, more cost time and tell no more


def dev_baseline(verifier: GraphVerifier, runtime: Runtime) -> Baseline | None:
    """Run a graph over dev rows and count what it answers; None where they are too few, which is said."""
    rows, task = verifier.dev.subsample(MOST, SEED), verifier.source.task
    if len(rows) < FEWEST:
        echo(f"no baseline for the server to see drift by: {len(rows):,} dev rows, where {FEWEST} are needed")
        return None
    encoder = TextEncoder(verifier.directory, verifier.source.max_length)
    encoded = encoder.encode(rows.texts, rows.pairs)
    traits = Traits.of(task.kind, batched_logits(runtime, encoded, BATCH_SIZE), encoded.ids, encoder.unknown_id)
    return make_baseline(traits, "dev", rows.digest)
