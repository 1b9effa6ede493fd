"""The options of each command: one frozen class for each, with the default and the help of every option.

The command line is made from these classes. A configuration reports all its problems at once, and a bundle keeps the
resolved configuration that made it.
"""

from __future__ import annotations

from toolkit.config.augment import AugmentConfig
from toolkit.config.base import Config
from toolkit.config.bench import BenchConfig
from toolkit.config.calibrate import CalibrateConfig
from toolkit.config.cascade import CascadeConfig
from toolkit.config.compress import CompressConfig
from toolkit.config.demo import DemoConfig
from toolkit.config.distill import COMPUTED, LAYER_MAPS, STUDENTS, DistillConfig
from toolkit.config.evaluate import EvaluateConfig
from toolkit.config.export import ExportConfig
from toolkit.config.finetune import FinetuneConfig
from toolkit.config.losses import LAYER_LOSSES, PREDICTION_LOSSES, layer_options
from toolkit.config.score import ScoreConfig
from toolkit.config.serve import ServeConfig
from toolkit.config.sharing import PullConfig, PushConfig, SignConfig, VerifyConfig

__all__ = [
    "COMPUTED", "LAYER_LOSSES", "LAYER_MAPS", "PREDICTION_LOSSES", "STUDENTS", "AugmentConfig", "BenchConfig",
    "CalibrateConfig", "CascadeConfig", "CompressConfig", "Config", "DemoConfig", "DistillConfig", "EvaluateConfig",
    "ExportConfig", "FinetuneConfig", "PullConfig", "PushConfig", "ScoreConfig", "ServeConfig", "SignConfig",
    "VerifyConfig", "layer_options",
]  # fmt: skip
