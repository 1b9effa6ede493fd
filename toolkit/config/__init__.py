"""What each command can be told: one frozen class a command, each option with its default and its help.

The command line is made from these classes, so an option cannot be documented and forgotten. Every fault of a
configuration is reported at once, and the resolved one goes into the bundle, so that it can be made again.
"""

from __future__ import annotations

from toolkit.config.augment import AugmentConfig
from toolkit.config.base import Config
from toolkit.config.bench import BenchConfig
from toolkit.config.demo import DemoConfig
from toolkit.config.distill import LAYER_LOSSES, LAYER_MAPS, STUDENTS, DistillConfig
from toolkit.config.export import ExportConfig
from toolkit.config.finetune import FinetuneConfig
from toolkit.config.serve import ServeConfig

__all__ = [
    "LAYER_LOSSES", "LAYER_MAPS", "STUDENTS", "AugmentConfig", "BenchConfig", "Config", "DemoConfig", "DistillConfig",
    "ExportConfig", "FinetuneConfig", "ServeConfig",
]  # fmt: skip
