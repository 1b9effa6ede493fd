"""Endpoints behind the admin keys: exchange a model while it serves, and take that back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StrictBool
from starlette.types import Receive, Scope, Send

from serve.api.classify import get_models
from serve.api.schemas import error_responses
from serve.exceptions import ServeError
from serve.http.api_keys import with_key
from serve.http.json_route import JsonRoute
from serve.models.loading import in_daemon_thread, load_predictor
from serve.models.registry import Model, Models
from serve.models.replay import Comparison, compare
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor

ADMIN = "/admin"
MIN_AGREEMENT = 0.9


class AdminRoute(JsonRoute):
    """A route that checks the admin keys itself, before a body is read, by whatever path it was reached."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key, then answer."""
        await with_key(scope["app"].state.admin_keys, super().handle, scope, receive, send)


router = APIRouter(prefix=ADMIN, route_class=AdminRoute)


class SwapRequest(BaseModel):
    """The bundle to change to, and the largest difference that is allowed."""

    bundle: str = Field(description="Directory of the new bundle, under --models-root.", examples=["reviews-v2"])
    min_agreement: float = Field(
        MIN_AGREEMENT, ge=0, le=1,
        description="Smallest share of the replayed inputs to which both models must give the same label.",
    )  # fmt: skip
    max_score_difference: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Largest difference of a score that is accepted; all there is to check for regression."
    )
    force: StrictBool = Field(False, description="Change whatever the comparison says.")


class Changed(BaseModel):
    """The model that answers now, and the difference of its answers from those of the model before."""

    model: str
    digest: str
    previous_digest: str = Field(description="Of the model that answered until now.")
    compared: Annotated[int, Field(description="Recent inputs that both models were asked.")] = 0
    agreement: Annotated[float | None, Field(description="Share with the same label; null where there is none.")] = None
    max_score_difference: float | None = None


@router.post(
    "/models/{name}", response_model=Changed, responses=error_responses(401, 404, 409, 413, 415, 422, 500, 503)
)
async def swap(http: Request, name: str, request: SwapRequest) -> JSONResponse:
    """Verify and load a bundle, compare it on recent requests, and let it answer from then on."""
    models = get_models(http)
    models.get(name)
    directory = resolve_below(http.app.state.models_root, request.bundle)
    with _change_of(models, name) as before:
        predictor = await _loaded(directory, http.app.state.signer)
        _check_same_task(before, predictor)
        if before.thresholds is not None and models.thresholds(predictor) is None:
            problem = f"the bundle has no threshold, and {name} has one, by which it abstains or asks a fallback"
            raise ServeError("Validation", f"{problem}; toolkit calibrate --accurate or --agree finds one")
        comparison = await _compared(models, before, predictor)
        if not request.force:
            _check_agreement(comparison, request)
        if models.get(name) is not before:
            raise ServeError("Validation", f"not changed; {name} went back to its earlier model meanwhile", status=409)
        after = models.switch(name, predictor)
    changed = Changed(
        model=name, digest=after.digest, previous_digest=before.digest, compared=comparison.compared,
        agreement=comparison.agreement, max_score_difference=comparison.max_score_difference,
    )  # fmt: skip
    return JSONResponse(changed.model_dump())


@router.post("/models/{name}/rollback", response_model=Changed, responses=error_responses(401, 404, 409, 422, 500, 503))
async def rollback(http: Request, name: str) -> Changed:
    """Let the model before the latest change answer again."""
    models = get_models(http)
    before = models.get(name)
    after = models.rollback(name)
    return Changed(model=name, digest=after.digest, previous_digest=before.digest)


def resolve_below(root: Path, name: str) -> Path:
    """Resolve a directory below `root`, links followed.

    Raises:
        ServeError: it lies elsewhere or does not exist; the message does not say which.
    """
    try:
        path = (root / name).resolve()
        below = path.is_relative_to(root) and path != root and path.is_dir()
    except (OSError, ValueError):  # a loop of links, a name too long, a NUL
        below = False
    if not below:
        raise ServeError("Validation", "`bundle` is not a directory below --models-root")
    return path


@contextmanager
def _change_of(models: Models, name: str) -> Iterator[Model]:
    """Yield the model that answers now; a second change of the same name is refused until this one ends.

    Nothing is locked: changes of other names and rollbacks go on, however long a bundle takes.

    Raises:
        ServeError: 409, the name is being changed.
    """
    if name in models.changing:
        raise ServeError("Validation", f"{name} is being changed already", status=409)
    models.changing.add(name)
    try:
        yield models.get(name)
    finally:
        models.changing.discard(name)


async def _loaded(directory: Path, signer: str | None) -> Predictor:
    try:
        return await in_daemon_thread(load_predictor, directory, signer)
    except (ToolkitError, OSError) as error:
        raise ServeError("Validation", str(error)) from error


def _check_same_task(before: Model, predictor: Predictor) -> None:
    """Check that clients need not change: task, kind and labels in their order are the same, and the bundle is not."""
    old, new = before.task, predictor.task
    if (old.name, old.kind, old.labels) != (new.name, new.kind, new.labels):
        raise ServeError(
            "Validation",
            f"the bundle is for {new.name} ({new.kind}: {', '.join(new.labels)}), {before.name} for "
            f"{old.name} ({old.kind}: {', '.join(old.labels)}); task and labels must be the same",
        )
    if predictor.bundle.digest == before.digest:
        raise ServeError("Validation", f"{before.name} is this very bundle already", status=409)


async def _compared(models: Models, before: Model, predictor: Predictor) -> Comparison:
    """Compare the new model with the current one on recent inputs."""
    recent, limits = models.recent(before.name), models.limits
    try:
        limits.check(predictor.bundle.max_length)
    except ToolkitError as error:
        raise ServeError("Validation", str(error)) from error
    longest = max(before.predictor.bundle.max_length, predictor.bundle.max_length)
    texts = [] if recent is None else recent.texts()
    try:
        return await in_daemon_thread(
            compare, before.predictor, predictor, texts, batch_size=max(1, limits.max_batch_tokens // longest)
        )
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ServeError("Validation", f"not changed; the new model fails: {error}", status=409) from error


def _check_agreement(comparison: Comparison, request: SwapRequest) -> None:
    """Refuse a model that answers too differently.

    Raises:
        ServeError: 409, with what was measured and what was required.
    """
    agreement, difference = comparison.agreement, comparison.max_score_difference
    most = request.max_score_difference
    problems = []
    if agreement is not None and agreement < request.min_agreement:
        problems.append(f"labels agree on {agreement:.4f} of them, below min_agreement {request.min_agreement}")
    if difference is not None and most is not None and difference > most:
        problems.append(f"a score differs by {difference:.4f}, more than max_score_difference {most}")
    if comparison.failed:
        problems.append(f"the new model gives no finite score to {comparison.failed}")
    if problems:
        refusal = f"not changed; of {comparison.compared} recent inputs: {'; '.join(problems)}"
        raise ServeError("Validation", f'{refusal}. {{"force": true}} changes all the same', status=409)
