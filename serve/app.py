"""The factory of the application: models, routes, and the middleware around them.

`TOOLKIT_BUNDLE=DIR uvicorn serve.app:create_app --factory` starts it without the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from serve.api import admin, hugging_face, open_inference, routes
from serve.engine.limits import Limits
from serve.http import tracing
from serve.http.access_log import AccessLogMiddleware
from serve.http.api_keys import ADMIN_KEYS_VARIABLE, ApiKeyMiddleware, ApiKeySet
from serve.http.body_limit import BodyLimit
from serve.http.cors import JsonCorsMiddleware, cors
from serve.http.error_handlers import handle_errors
from serve.http.head import HeadMiddleware
from serve.http.json_route import Turns
from serve.http.security_headers import SecurityHeadersMiddleware
from serve.lifecycle import drain_on_sigterm
from serve.metrics import Metrics
from serve.models.audit import Audit
from serve.models.fallback import FallbackSource, make_cascade, open_fallback
from serve.models.loading import load_predictor, parse_model_names
from serve.models.registry import Models
from toolkit import __version__
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor

Source = str | Path | Predictor
# FastAPI's own telemetry would log what users send when a request is wrong; serve.http.tracing never does
NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(
    source: Source | Mapping[str, Source] | None = None, *, config: ServeConfig | None = None,
    limits: Limits | None = None, keys: ApiKeySet | None = None, admin_keys: ApiKeySet | None = None,
    fallback: FallbackSource | None = None,
) -> FastAPI:  # fmt: skip
    """Create an application that loads its bundles when it starts.

    Args:
        source: a bundle's directory, a predictor made by `load_predictor`, or several of them by name, the default
            first; None for the bundles of `config`.
        config: the options of `toolkit serve`; None reads each from TOOLKIT_<OPTION>, and the bundles from
            TOOLKIT_BUNDLE.
        limits: how much to accept; None for the limits of `config`.
        keys: every request must bring one of them; None for those of TOOLKIT_API_KEYS and of `config`'s file.
        admin_keys: open /admin, which does not exist without them; None for those of TOOLKIT_ADMIN_KEYS and of
            `config`'s file.
        fallback: who answers what the first model is unsure of; None opens that of `config`, if it has one.

    Raises:
        ToolkitError: no bundle is named, options that cannot be used, or keys that cannot be read.
    """
    config = config or ServeConfig.of_environment()
    accepted = limits or Limits.of(config)
    sources = _by_name(source, config)
    needed = ApiKeySet.load(config.api_keys_file) if keys is None else keys
    admins = _admin_keys(config) if admin_keys is None else admin_keys
    root = _models_root(config, admins, needed)
    traces = tracing.provider()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.models = models = await _load_models(app, sources, config, accepted, fallback)
        with drain_on_sigterm(models, config.shutdown_delay_s):
            yield
        await models.close()
        if traces is not None:
            await asyncio.to_thread(traces.shutdown)

    routers = (routes.router, hugging_face.router, open_inference.router, *((admin.router,) if admins else ()))
    app = FastAPIOffline(
        routes=[route for router in routers for route in router.routes],  # include_router costs a tenth of a request
        redoc_url=None, title="TinyBERT toolkit", version=__version__, lifespan=lifespan, telemetry=NO_TELEMETRY,
        redirect_slashes=False,
        description="Text classification, with the requests and answers of text-embeddings-inference.",
    )  # fmt: skip
    app.state.metrics, app.state.models, app.state.turns = Metrics(), None, Turns()
    app.state.admin_keys, app.state.models_root, app.state.signer = admins, root, config.require_signature
    _add_middleware(app, config, accepted, needed, admin_path=f"{admin.ADMIN}/" if admins else "", traces=traces)
    handle_errors(app)
    return app


def _add_middleware(
    app: FastAPI, config: ServeConfig, limits: Limits, keys: ApiKeySet, *, admin_path: str, traces: Any
) -> None:
    """Add the middleware from the inside out: each wraps those before it."""
    app.add_middleware(HeadMiddleware)  # innermost
    app.add_middleware(BodyLimit, limit=limits.payload_limit)
    if keys:
        open_metrics = config.metrics_access == "open"
        app.add_middleware(ApiKeyMiddleware, keys=keys, elsewhere=admin_path, open_metrics=open_metrics)
    origins = [origin.strip() for origin in config.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(JsonCorsMiddleware, **cors(origins))
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    if traces is not None:
        app.add_middleware(tracing.TracingMiddleware, provider=traces)


async def _load_models(
    app: FastAPI, sources: Mapping[str, Source], config: ServeConfig, limits: Limits, fallback: FallbackSource | None
) -> Models:
    """Load what is not loaded yet, and start the engines."""
    predictors = {name: await _loaded(bundle, config.require_signature) for name, bundle in sources.items()}
    fallback = fallback or await asyncio.to_thread(open_fallback, config, predictors, limits)
    metrics: Metrics = app.state.metrics
    labels = next(iter(predictors.values())).task.labels
    cascade = None if fallback is None else make_cascade(fallback, labels, limits, metrics, config)
    audit = None
    if cascade is not None and config.audit_share:
        audit = Audit(cascade, config.audit_share, metrics.audits(next(iter(predictors))))
    return Models(
        predictors, limits, metrics, remember=bool(app.state.admin_keys), threshold=config.threshold, cascade=cascade,
        audit=audit,
    )  # fmt: skip


async def _loaded(source: Source, signer: str | None) -> Predictor:
    return source if isinstance(source, Predictor) else await asyncio.to_thread(load_predictor, source, signer)


def _by_name(source: Source | Mapping[str, Source] | None, config: ServeConfig) -> dict[str, Source]:
    if isinstance(source, Mapping):
        return dict(source)
    if isinstance(source, Predictor):
        (name,) = parse_model_names([str(source.bundle.path)])
        return {name: source}
    return dict(parse_model_names(config.bundles if source is None else [str(source)]))


def _admin_keys(config: ServeConfig) -> ApiKeySet:
    return ApiKeySet.load(config.admin_keys_file, ADMIN_KEYS_VARIABLE, "--admin-keys-file")


def _models_root(config: ServeConfig, admins: ApiKeySet, users: ApiKeySet) -> Path:
    """Resolve the directory that admins may take bundles from; it has no default, since a bundle may lie at /bundle.

    Raises:
        ToolkitError: admin keys without --models-root or the reverse, a key that is both an admin's and a user's, or a
            root that is no directory.
    """
    if bool(admins) != (config.models_root is not None):
        present, missing = ("admin keys", "--models-root") if admins else ("--models-root", "admin keys")
        raise ToolkitError(
            f"{present} without {missing}: nobody could change a model",
            fix=f"--models-root DIR together with --admin-keys-file or {ADMIN_KEYS_VARIABLE}",
        )
    if admins.shares(users):
        raise ToolkitError("a key is both an admin's and a user's", expected="admin keys of their own")
    root = Path(config.models_root or ".").resolve()
    if not root.is_dir():
        raise ToolkitError(f"--models-root {config.models_root} is not a directory")
    return root
