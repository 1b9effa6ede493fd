"""Options of `toolkit serve`: each problem in words."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from tests.support.problems import only_problem
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError

SERVE = ServeConfig(("int8",))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"workers": -1}, "--workers -1: expected 0 or more"),
        ({"drain_s": -1}, "--drain-s -1: expected 0 or more"),
        ({"processes": 0}, "--processes 0: expected 1 or more"),
        ({"processes": 2, "models_root": "models"}, "--models-root with --processes"),
        ({"shutdown_delay_s": 3600.0}, "--shutdown-delay-s 3600.0: expected 0 up to 3600"),
        ({"metrics_access": "no"}, "--metrics-access no: expected one of keyed, open"),
        ({"threshold": 1.5}, "--threshold 1.5: expected 0 to 1"),
        ({"threshold": float("nan")}, "--threshold nan: expected 0 to 1"),
        ({"fallback": "big", "max_fallback_share": 0.0}, "--max-fallback-share 0: expected more than 0, at most 1"),
        ({"fallback": "big", "fallback_timeout_ms": 0}, "--fallback-timeout-ms 0: expected 1 or more"),
        ({"fallback": "big", "fallback_concurrency": 0}, "--fallback-concurrency 0: expected 1 or more"),
        ({"fallback_model": "m", "max_fallback_share": 0.5}, "--fallback-model, --max-fallback-share without"),
        ({"log_format": "xml"}, "--log-format xml: expected one of text, json, none"),
    ],
)
def test_each_problem_alone(options: dict[str, Any], problem: str) -> None:
    assert problem in only_problem(replace(SERVE, **options))


def test_options_from_text_have_their_types() -> None:
    bundles = os.pathsep.join(["int8", "", "fast=other"])
    config = ServeConfig.from_strings({
        "bundle": bundles, "port": "0", "shutdown_delay_s": "1.5", "api_keys_file": "keys", "colour": "red",
    })  # fmt: skip
    assert config == ServeConfig(("int8", "fast=other"), port=0, shutdown_delay_s=1.5, api_keys_file="keys")
    with pytest.raises(ToolkitError, match="max_batch_tokens=many") as caught:
        ServeConfig.from_strings({"max_batch_tokens": "many"})
    assert caught.value.expected == "a number, as 1024"


def test_options_from_the_environment_are_the_application_s() -> None:
    environment = {"TOOLKIT_BUNDLE": "int8", "TOOLKIT_WORKERS": "3", "TOOLKIT_PORT": "taken", "WORKERS": "9"}
    assert ServeConfig.of_environment(environment) == ServeConfig(("int8",), workers=3), "the port is the process's"
    with pytest.raises(ToolkitError, match="TOOLKIT_WORKERS=all"):
        ServeConfig.of_environment({"TOOLKIT_WORKERS": "all"})
