"""The OpenAPI document is true: what it allows is answered as it says, what it does not allow is refused as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.openapi.checks import UndefinedStatusCode

from tests.support.server import serving

EXAMPLES = 20  # of each operation and mode
V2_MODEL = tuple(
    f"/v2/models/{{name}}{version}{what}"
    for version in ("", "/versions/{version}")
    for what in ("", "/config", "/ready", "/stats")
)
GETS = (
    "/health", "/health/live", "/health/ready", "/info", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready",
    "/v2/models/stats", *V2_MODEL,
)  # fmt: skip
INFER = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")
INDEX = "/v2/repository/index"  # a POST without a body
POSTS = ("/", "/models/{name}/predict", "/predict", *INFER)
# more than a schema can ask for: a function that the model has, shapes that fit their data
UNSAID = dict.fromkeys(("/", *INFER), "positive_data_acceptance")


@pytest.fixture(scope="module")
def schema(tiny_onnx: Path) -> Iterator[Any]:
    options = ("--workers", "1", "--log-format", "none")
    with serving("-m", "serve", f"tiny={tiny_onnx}", "--port", "0", *options) as (_, address):
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def give_time_and_room(body: Any) -> None:
    """A request for an answer in 1 ms, or for a long text uncut, is rightly refused, which is not looked for here."""
    for holder in (body, body.get("parameters") if isinstance(body, dict) else None):
        if not isinstance(holder, dict):
            continue
        for name in ("timeout", "timeout_ms"):
            given = holder.get(name)
            if isinstance(given, int | float) and not isinstance(given, bool) and given >= 1 and given % 1 == 0:
                holder[name] = max(given, 30_000_000 if name == "timeout" else 30_000)  # 1.5 is to be refused as it is
        for name in ("truncate", "truncation"):
            if holder.get(name) is False:
                holder[name] = True


def ask(schema: Any, method: str, path: str, mode: GenerationMode) -> None:
    left_out = [CHECKS.get_one(UNSAID[path])] if path in UNSAID else []

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if method == "POST" and "{name}" in path:  # hardly any made-up name would be a model's
            case.path_parameters["name"] = "tiny"
        if "{version}" in path and method == "POST":
            case.path_parameters["version"] = "1"
        give_time_and_room(case.body)
        case.call_and_validate(excluded_checks=left_out)

    check()


def test_every_operation_is_listed_here(schema: Any) -> None:
    operations = {(operation.ok().method.upper(), operation.ok().path) for operation in schema.get_all_operations()}
    assert operations == {("GET", path) for path in GETS} | {("POST", path) for path in (*POSTS, INDEX)}


@pytest.mark.parametrize("path", GETS)
def test_every_answer_to_a_get_is_documented(schema: Any, path: str) -> None:
    ask(schema, "GET", path, GenerationMode.POSITIVE)


def test_every_answer_of_the_index_is_documented(schema: Any) -> None:
    ask(schema, "POST", INDEX, GenerationMode.POSITIVE)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", POSTS)
def test_every_answer_to_a_post_is_documented(schema: Any, path: str, mode: GenerationMode) -> None:
    ask(schema, "POST", path, mode)


def test_an_answer_that_is_not_documented_is_noticed(schema: Any) -> None:
    raw = {**schema.raw_schema, "paths": {"/predict": schema.raw_schema["paths"]["/predict"].copy()}}
    post = raw["paths"]["/predict"]["post"]
    responses = {status: response for status, response in post["responses"].items() if status != "422"}
    raw["paths"]["/predict"] = {"post": {**post, "responses": responses}}
    wrong = schemathesis.openapi.from_dict(raw)
    wrong.config.update(base_url=schema.get_base_url())
    with pytest.raises(FailureGroup) as caught:
        ask(wrong, "POST", "/predict", GenerationMode.NEGATIVE)
    assert {type(error) for error in caught.value.exceptions} == {UndefinedStatusCode}
