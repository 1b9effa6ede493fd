"""The same application on Ray Serve, on as many machines as a Ray cluster has.

`serve run serve.ray_app:build bundle=DIR` starts it on this machine; several bundles are separated as directories in
PATH are. The options of `toolkit serve` may follow as name=value, and those of `Replicas`, but for what Ray has itself:
host, port, processes and their end. Models are changed by deploying anew, not by an admin's call, which would reach one
replica of many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from ray import serve

from serve.log_format import configure
from serve.supervisor import build_app
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError, raise_problems

T = TypeVar("T", "Replicas", ServeConfig)
SUBJECT = "serve.ray_app:build"
RAYS_OWN = {"host", "port", "processes", "drain_s", "shutdown_delay_s", "admin_keys_file", "models_root"}


@dataclass(frozen=True)
class Replicas:
    """How many copies of the server run.

    Attributes:
        min_replicas: kept when nothing is asked.
        max_replicas: never more.
        target_requests: requests waiting or running at one replica, on average, above which another one starts.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: int = 32

    def problems(self) -> Iterator[str]:
        """Each fault in words."""
        if self.min_replicas < 0 or self.target_requests < 1:
            yield "min_replicas: expected 0 or more, target_requests: 1 or more"
        if self.max_replicas < max(1, self.min_replicas):
            yield f"max_replicas {self.max_replicas}: expected min_replicas, {self.min_replicas}, or more; at least 1"


def build(args: Mapping[str, str]) -> serve.Application:
    """An application for `serve run`, `serve deploy` or `ray.serve.run`; every replica loads the bundle itself.

    A replica takes as many CPUs of the cluster as it has `workers`, one unless told otherwise.

    Raises:
        ToolkitError: options that do not exist or cannot work, all of them in one message.
    """
    names = {one.name for one in fields(Replicas)}
    replicas = _parse(Replicas, {name: value for name, value in args.items() if name in names})
    rest: dict[str, Any] = {name: value for name, value in args.items() if name not in names}
    if "bundle" not in rest:
        raise ToolkitError(f"{SUBJECT}: no bundle to serve", fix="bundle=DIR")
    rest["bundles"] = tuple(rest.pop("bundle").split(os.pathsep))
    config = _parse(ServeConfig, rest)
    config = replace(config, workers=config.workers or 1)
    raise_problems([*replicas.problems(), *config.problems()], subject=SUBJECT)

    def in_a_replica() -> FastAPI:
        configure(config.log_format)
        return build_app(config)[1]

    deployment = serve.deployment(
        name="tinybert",
        ray_actor_options={"num_cpus": config.workers},
        # Ray hands out no more than the engine accepts, so waiting happens where the autoscaler sees it
        max_ongoing_requests=config.max_concurrent_requests,
        health_check_period_s=10,
        graceful_shutdown_timeout_s=30,
        autoscaling_config={
            "min_replicas": replicas.min_replicas, "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target_requests, "upscale_delay_s": 5, "downscale_delay_s": 300,
        },
    )  # fmt: skip
    bound: serve.Application = deployment(serve.ingress(in_a_replica)()).bind()
    return bound


def _parse(kind: type[T], given: Mapping[str, Any]) -> T:
    """Options from the text that Ray hands over."""
    known = {one.name for one in fields(kind)} - RAYS_OWN
    raise_problems((f"{name}: no such option" for name in given.keys() - known), subject=SUBJECT)
    try:
        found: Any = TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolkitError(f"{SUBJECT}: {first['loc'][0]}: {first['msg']}") from None
    return found  # type: ignore[no-any-return]
