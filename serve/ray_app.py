"""The application on Ray Serve, on as many machines as a Ray cluster has.

`serve run serve.ray_app:build bundle=DIR` starts it on this machine; several bundles are separated as directories in
PATH are. The options of `toolkit serve` may follow as name=value, and those of `Replicas`. Ray itself decides host,
port, processes and shutdown. A new deployment changes the models: an admin's call would reach one replica of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from fastapi import FastAPI
from ray import serve

from serve.log_format import configure
from serve.supervisor import build_app
from toolkit.config import ServeConfig
from toolkit.config.serve import parse_value
from toolkit.errors import ToolkitError, raise_problems

SUBJECT = "serve.ray_app:build"
OPTIONS_OF_RAY = {"host", "port", "processes", "drain_s", "shutdown_delay_s", "admin_keys_file", "models_root"}


@dataclass(frozen=True)
class Replicas:
    """The number of copies of the server.

    Attributes:
        min_replicas: copies that stay when no requests come.
        max_replicas: the most copies.
        target_requests: requests waiting or running at one replica, on average, above which another one starts.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    target_requests: int = 32

    def problems(self) -> Iterator[str]:
        """Yield each problem in words."""
        if self.min_replicas < 0 or self.target_requests < 1:
            yield "min_replicas: expected 0 or more, target_requests: 1 or more"
        if self.max_replicas < max(1, self.min_replicas):
            yield f"max_replicas {self.max_replicas}: expected min_replicas, {self.min_replicas}, or more; at least 1"


def build(args: Mapping[str, str]) -> serve.Application:
    """Build an application for `serve run`, `serve deploy` or `ray.serve.run`; every replica loads the bundle itself.

    A replica takes as many CPUs of the cluster as it has `workers`; the default is one.

    Raises:
        ToolkitError: options that do not exist or cannot work, all of them in one message.
    """
    if "bundle" not in args:
        raise ToolkitError(f"{SUBJECT}: no bundle to serve", fix="bundle=DIR")
    options = {field.name for field in fields(ServeConfig)} - OPTIONS_OF_RAY - {"bundles"}
    known = {"bundle"} | options | {field.name for field in fields(Replicas)}
    raise_problems((f"{name}: no such option" for name in args.keys() - known), subject=SUBJECT)
    replicas = Replicas(
        **{
            field.name: parse_value(args[field.name], field.default, f"{SUBJECT}: {field.name}")
            for field in fields(Replicas)
            if field.name in args
        }
    )
    config = ServeConfig.from_strings(args, f"{SUBJECT}: {{}}".format)
    config = replace(config, workers=config.workers or 1)
    raise_problems([*replicas.problems(), *config.problems()], subject=SUBJECT)

    def in_a_replica() -> FastAPI:
        configure(config.log_format)
        return build_app(config)[1]

    deployment = serve.deployment(
        name="tinybert",
        ray_actor_options={"num_cpus": config.workers},
        # Ray hands out no more than the engine accepts, so that requests wait where the autoscaler counts them
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
