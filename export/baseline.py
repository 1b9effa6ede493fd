"""The baseline of an export: what its own graph answers to dev rows, for a server to see drift by."""

from __future__ import annotations

import numpy as np

from export.calibration_data import SEED
from export.verify import GraphVerifier
from toolkit.bundle.baseline import Baseline
from toolkit.console import echo
from toolkit.inference.drift import Traits, make_baseline

FEWEST, MOST = 200, 5_000  # rows: fewer would differ from any others by chance, more tell no more


def dev_baseline(verifier: GraphVerifier, logits: np.ndarray) -> Baseline | None:
    """Count what a graph answers to dev rows, by its logits [n, C]; None where they are too few, which is said."""
    dev = verifier.dev
    if len(dev) < FEWEST:
        echo(f"the server will see no drift: its baseline needs {FEWEST} dev rows, of which there are {len(dev):,}")
        return None
    rows = dev.sample(MOST, SEED)
    ids = verifier.encoded.take(rows).ids
    traits = Traits.of(verifier.source.task.kind, logits[rows], ids, verifier.encoder.unknown_id)
    return make_baseline(traits, "dev", dev.take(rows).digest)
