"""Models exchanged while they serve: only by admins, only for what fits, and without a request noticing."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer

from serve.app import create_app
from serve.engine.limits import Limits
from serve.http.api_keys import ApiKeySet
from serve.log_format import JsonFormatter
from serve.metrics import Metrics
from serve.models.loading import load_predictor
from serve.models.registry import Models
from serve.supervisor import build_app
from tests.support.arithmetic_bundles import LOG, SUM, TWICE, rewritten, save_arithmetic
from tests.support.calibrating import calibration
from tests.support.data import rows
from tests.support.gate import Gate
from tests.support.keys import write_keys
from tests.support.responses import error_of, log_lines, sample
from tests.support.server import ask, serving
from toolkit.bundle.calibration import Promise
from toolkit.bundle.format import open_bundle
from toolkit.bundle.signature import sign_bundle
from toolkit.config import ServeConfig
from toolkit.errors import ToolkitError
from toolkit.inference.predictor import Predictor, open_predictor

ADMIN = {"authorization": "Bearer admin-key"}
USER = {"authorization": "Bearer user-key"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path, tokenizer: Tokenizer) -> Path:
    """Bundles by name, under one directory."""
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(tiny_onnx, folder / "old")
    rewritten(tiny_onnx, folder / "near", classifier__bias=lambda bias: bias + np.array([0, 4e-3]))
    rewritten(tiny_onnx, folder / "opposite", classifier__weight=lambda w: -w, classifier__bias=lambda b: -b)
    for name, graph in (("sum", SUM), ("twice", TWICE)):
        save_arithmetic(folder / name, tokenizer, graph)
    return folder


@contextmanager
def administered(root: Path, *names: str, users: ApiKeySet | None = None) -> Iterator[TestClient]:
    app = create_app(
        {name: root / name for name in names}, config=ServeConfig((), models_root=str(root)), limits=Limits(workers=1),
        keys=users or ApiKeySet(), admin_keys=ApiKeySet(["admin-key"]),
    )  # fmt: skip
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def digest(path: Path) -> str:
    return open_bundle(path).digest


def swap(client: TestClient, name: str, bundle: str, **rest: Any) -> Any:
    return client.post(f"/admin/models/{name}", json={"bundle": bundle, **rest}, headers=ADMIN)


def test_a_model_is_exchanged_and_taken_back(root: Path) -> None:
    texts = [text for text, _ in rows(20, seed=4)]
    with administered(root, "old") as client:
        before = [client.post("/predict", json={"inputs": text}).json() for text in texts]
        response = swap(client, "old", "near")
        assert response.status_code == 200
        body = response.json()
        old, new = (open_predictor(root / name, threads=1).predict(texts) for name in ("old", "near"))
        assert body.pop("max_score_difference") == pytest.approx(np.abs(old - new).max(), abs=1e-6)
        assert np.abs(old - new).max() > 1e-4
        assert body == {
            "model": "old", "digest": digest(root / "near"), "previous_digest": digest(root / "old"), "compared": 20,
            "agreement": 1.0,
        }  # fmt: skip
        answer = client.post("/predict", json={"inputs": texts[0]})
        assert answer.headers["x-model-digest"] == digest(root / "near")[:12]
        expected = open_predictor(root / "near", threads=1).predict(texts[:1])[0].max()
        assert answer.json()[0]["score"] == pytest.approx(expected, abs=1e-6)
        assert client.get("/info").json()["digest"] == digest(root / "near")
        back = client.post("/admin/models/old/rollback", headers=ADMIN)
        assert (back.json()["digest"], back.json()["previous_digest"]) == (digest(root / "old"), digest(root / "near"))
        assert [client.post("/predict", json={"inputs": text}).json() for text in texts] == before
        again = client.post("/admin/models/old/rollback", headers=ADMIN)
        assert error_of(again) == (409, "Validation", "old has no earlier model to go back to")
        assert client.get("/info").json()["digest"] == digest(root / "old")


def test_a_model_that_answers_differently_is_refused_unless_forced(root: Path) -> None:
    with administered(root, "old") as client:
        for text, _ in rows(30, seed=5):
            client.post("/predict", json={"inputs": text})
        refused = error_of(swap(client, "old", "opposite"))
        assert refused[:2] == (409, "Validation")
        assert "of 30 recent inputs: labels agree on 0.0000 of them, below min_agreement 0.9" in refused[2]
        assert client.get("/info").json()["digest"] == digest(root / "old")
        assert swap(client, "old", "near", max_score_difference=1e-6).status_code == 409
        assert swap(client, "old", "opposite", force=True).json()["agreement"] == 0.0
        assert client.get("/info").json()["digest"] == digest(root / "opposite")
        assert swap(client, "old", "old", min_agreement=0).status_code == 200


def test_who_tells_sure_from_unsure_goes_on_telling(root: Path) -> None:
    """Else a fallback would be asked no more, and clients that abstain would get errors."""
    predictor = load_predictor(root / "old")
    promise: Promise = {"kind": "agree", "share": 0.9, "confidence": 0.95, "threshold": 1.0, "coverage": 0.5}
    predictor.calibration = {**calibration(1.0), "thresholds": [promise]}
    for own, given, status in ((predictor, 0.0, 422), (predictor, 0.9, 200), (load_predictor(root / "old"), 0.0, 200)):
        config = ServeConfig((), models_root=str(root), threshold=given)
        app = create_app({"old": own}, config=config, limits=Limits(workers=1), admin_keys=ApiKeySet(["admin-key"]))
        with TestClient(app) as client:
            response = swap(client, "old", "near", force=True)
            assert response.status_code == status
            if status == 422:
                assert "the bundle has no threshold, and old has one" in error_of(response)[2]
                assert client.post("/predict", json={"inputs": "a"}).headers["x-unsure"] == "1"


def test_drift_is_that_of_the_model_that_answers(root: Path, watched: Path) -> None:
    shutil.copytree(watched, root / watched.name, dirs_exist_ok=True)

    def drift() -> tuple[float, float]:
        shown = sample(client, "te_drift_inputs", model="watched")
        return shown, sample(client, "te_drift_stability_index", model="watched", of="length")

    with administered(root, watched.name) as client:
        for _ in range(16):
            client.post("/predict", json={"inputs": [["a"]] * 32})
        inputs, index = drift()
        assert inputs == 512
        assert index > 1
        assert swap(client, "watched", "near", force=True).status_code == 200  # it has no baseline
        assert drift() == (0, 0)
        client.post("/admin/models/watched/rollback", headers=ADMIN)
        assert drift() == (inputs, index)


def test_a_regression_is_compared_by_its_number(root: Path) -> None:
    with administered(root, "sum") as client:
        client.post("/predict", json={"inputs": "a"})  # its ids sum to 10
        assert "differs by 10.0000" in error_of(swap(client, "sum", "twice", max_score_difference=9.5))[2]
        changed = swap(client, "sum", "twice", max_score_difference=10).json()
        assert (changed["agreement"], changed["max_score_difference"]) == (None, 10.0)
        assert client.post("/predict", json={"inputs": "a"}).json() == [{"score": 20.0, "label": "score"}]


def test_scores_that_are_not_finite_agree_with_nothing(root: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """log(60 - sum) is finite for "a" and not for "the": it would not load at all, so it comes in already loaded."""
    from serve.models.replay import compare

    log = save_arithmetic(tmp_path / "log", tokenizer, LOG)
    first, second = open_predictor(root / "sum", threads=1), open_predictor(log, threads=1)
    comparison = compare(first, second, [("a", None), ("the", None)], batch_size=2)
    assert (comparison.compared, comparison.failed) == (2, 1)
    assert comparison.max_score_difference == pytest.approx(10 - np.log(50), abs=1e-5)


def test_before_any_request_there_is_nothing_to_compare(root: Path) -> None:
    with administered(root, "old") as client:
        changed = swap(client, "old", "opposite").json()
        assert (changed["compared"], changed["agreement"]) == (0, None)


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("old", {"bundle": "sum"}, 422, "the bundle is for auto .regression: score.*task and labels must be the same"),
        ("old", {"bundle": "old"}, 409, "this very bundle already"),
        ("old", {"bundle": "none"}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "damaged"}, 422, "model.onnx is damaged"),
        ("old", {"bundle": "../outside"}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "/etc"}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "link"}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "."}, 422, "not a directory below --models-root"),
        ("old", {"bundle": ""}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "a\0b"}, 422, "not a directory below --models-root"),
        ("old", {"bundle": "x" * 5000}, 422, "not a directory below --models-root"),
        ("none", {"bundle": "near"}, 404, "no model 'none'; this server has old"),
        ("old", {}, 422, "`bundle`: Field required"),
        ("old", {"bundle": "near", "force": "yes"}, 422, "`force`"),
        ("old", {"bundle": "near", "min_agreement": 2}, 422, "`min_agreement`"),
        ("old", [], 422, ""),
    ],
)
def test_what_cannot_be_changed_to_is_told_and_changes_nothing(
    name: str, body: Any, status: int, message: str, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import re

    outside = root.parent / "outside"
    if not (root / "link").is_symlink():
        shutil.copytree(root / "near", outside, dirs_exist_ok=True)
        (root / "link").symlink_to(outside)
        shutil.copytree(root / "near", root / "damaged")
        (root / "damaged" / "model.onnx").write_bytes(b"x")
    with administered(root, "old") as client:
        error = error_of(client.post(f"/admin/models/{name}", json=body, headers=ADMIN))
        assert error[:2] == (status, "Validation")
        assert re.search(message, error[2]), error[2]
        if "outside" in json.dumps(body) or "link" in json.dumps(body):
            assert str(outside) not in error[2]
        answer = client.post("/predict", json={"inputs": "a"})
        assert answer.headers["x-model-digest"] == digest(root / "old")[:12]
        assert client.post("/admin/models/old/rollback", headers=ADMIN).status_code == 409


def test_a_fifo_for_a_manifest_is_refused(root: Path) -> None:
    shutil.copytree(root / "near", root / "fifo")
    (root / "fifo" / "bundle.json").unlink()
    os.mkfifo(root / "fifo" / "bundle.json")
    with administered(root, "old") as client:
        assert "bundle.json is not a regular file" in error_of(swap(client, "old", "fifo"))[2]
        assert swap(client, "old", "near").status_code == 200


def test_a_slow_change_holds_up_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, goes_on = threading.Event(), threading.Event()

    def load(directory: Path, signer: str | None) -> Predictor:
        if directory.name == "near":
            started.set()
            assert goes_on.wait(60)
        return load_predictor(directory, signer)

    monkeypatch.setattr("serve.api.admin.load_predictor", load)
    with administered(root, "old", "sum") as client, ThreadPoolExecutor() as pool:
        assert swap(client, "old", "opposite", force=True).status_code == 200
        slow = pool.submit(swap, client, "old", "near")
        assert started.wait(60)
        try:
            assert swap(client, "sum", "twice").status_code == 200
            assert error_of(swap(client, "old", "near"))[2] == "old is being changed already"
            assert client.post("/admin/models/old/rollback", headers=ADMIN).json()["digest"] == digest(root / "old")
        finally:
            goes_on.set()
        assert error_of(slow.result())[::2] == (409, "not changed; old went back to its earlier model meanwhile")
        assert client.get("/info").json()["digest"] == digest(root / "old")
        assert swap(client, "old", "near").status_code == 200


def test_nan_is_no_agreement_to_ask_for(root: Path) -> None:
    with administered(root, "old") as client:
        for field in ("min_agreement", "max_score_difference"):
            body = f'{{"bundle": "near", "{field}": NaN}}'
            headers = {**ADMIN, "content-type": "application/json"}
            assert error_of(client.post("/admin/models/old", content=body, headers=headers))[0] == 422


def test_admin_keys_and_user_keys_open_their_own_doors_only(root: Path) -> None:
    with administered(root, "old", users=ApiKeySet(["user-key"])) as client:
        for path in ("/admin/models/old", "/admin/models/old/rollback", "/admin/models/none"):
            for headers in (USER, {}, {"authorization": "Bearer admin-ke"}, {"authorization": "admin-key"}):
                refused = client.post(path, json={"bundle": "near"}, headers=headers)
                assert error_of(refused)[:2] == (401, "Unauthorized")
                assert refused.headers["www-authenticate"] == "Bearer"
            assert client.post(path, content=b"no JSON", headers=USER).status_code == 401  # not even read
        assert client.post("/predict", json={"inputs": "a"}, headers=ADMIN).status_code == 401
        assert client.post("/predict", json={"inputs": "a"}, headers=USER).status_code == 200
        assert client.get("/info", headers=ADMIN).status_code == 401
        assert swap(client, "old", "near").status_code == 200


def test_every_admin_route_is_locked(root: Path) -> None:
    """Also those that will be added one day."""
    with administered(root, "old") as client:
        paths = {path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/admin")}
        assert len(paths) == 2
        for path in paths:
            for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
                assert client.request(method, path.replace("{name}", "old")).status_code == 401
        # a server behind a prefix sees the whole path
        mounted = TestClient(client.app, root_path="/prefix")
        assert mounted.post("/prefix/admin/models/old/rollback", headers=USER).status_code == 401


def test_without_admin_keys_there_are_no_admin_routes(tiny_onnx: Path) -> None:
    with TestClient(create_app(tiny_onnx, keys=ApiKeySet(["user-key"]))) as client:
        for headers, status in ((ADMIN, 401), (USER, 404)):
            assert client.post("/admin/models/onnx", json={"bundle": "x"}, headers=headers).status_code == status
        assert not [path for path in client.get("/openapi.json", headers=USER).json()["paths"] if "admin" in path]
        assert client.app.state.models.recent("onnx") is None  # type: ignore[attr-defined]


def test_admin_keys_come_from_the_environment_and_a_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "admins").write_text("of-file\n")
    monkeypatch.setenv("TOOLKIT_ADMIN_KEYS", "of-env")
    monkeypatch.setenv("TOOLKIT_ADMIN_KEYS_FILE", str(tmp_path / "admins"))
    monkeypatch.setenv("TOOLKIT_MODELS_ROOT", str(root))
    with TestClient(create_app(root / "old")) as client:
        for key in ("of-env", "of-file"):
            headers = {"authorization": f"Bearer {key}"}
            assert client.post("/admin/models/old/rollback", headers=headers).status_code == 409


@pytest.mark.parametrize(
    ("admins", "options", "problem"),
    [
        (["k"], {}, "admin keys without --models-root"),
        ([], {"models_root": "."}, "--models-root without admin keys"),
        (["k"], {"models_root": "nowhere/at/all"}, "--models-root nowhere/at/all is not a directory"),
        (["k", "both"], {"models_root": "."}, "a key is both an admin's and a user's"),
        (["k"], {"models_root": ".", "processes": 2}, "--models-root with --processes"),
    ],
)
def test_doors_that_lead_nowhere_are_refused_at_the_start(
    admins: list[str], options: dict[str, Any], problem: str, tiny_onnx: Path
) -> None:
    with pytest.raises(ToolkitError, match=problem) as refused:
        create_app(tiny_onnx, config=ServeConfig((), **options), keys=ApiKeySet(["both"]), admin_keys=ApiKeySet(admins))
    assert "'k'" not in str(refused.value)


def test_what_was_asked_is_in_no_log(root: Path) -> None:
    with administered(root, "old") as client, log_lines(JsonFormatter()) as lines:
        client.post("/predict", json={"inputs": "private words"})
        swap(client, "old", "opposite")
        swap(client, "old", "near", min_agreement=0)
    assert len(lines) == 3
    assert not [line for line in lines if "private" in line or "words" in line or "admin-key" in line]


def test_requests_in_flight_are_finished_by_the_model_that_took_them(root: Path) -> None:
    """Held in the old model, a request outlives two changes and a roll back; everything else goes on beside it."""

    async def main() -> None:
        loaded = load_predictor(root / "sum")
        gate = Gate(loaded.runtime)
        models = Models({"m": Predictor(loaded.bundle, gate)}, Limits(workers=2), Metrics())
        old = models.get("m")
        held = asyncio.create_task(old.engine.predict([("a", None)]))
        await gate.wait_started()
        models.switch("m", load_predictor(root / "twice"))
        assert (await models.get("m").engine.predict([("a", None)])).logits.tolist() == [[20.0]]
        models.switch("m", load_predictor(root / "sum"))  # lets go of the first one
        await asyncio.sleep(0)
        assert old.engine.closing
        assert not held.done()
        twice = models.rollback("m")
        assert (await twice.engine.predict([("a", None)])).logits.tolist() == [[20.0]]
        assert models.workers.in_flight == 1
        gate.open()
        assert (await held).logits.tolist() == [[10.0]]
        await models.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_request_that_took_a_model_just_before_it_was_let_go_is_answered(root: Path) -> None:
    async def main() -> None:
        models = Models({"m": load_predictor(root / "sum")}, Limits(workers=1), Metrics())
        models.switch("m", load_predictor(root / "twice"))
        asked = asyncio.ensure_future(models.get("m").engine.predict([("a", None)]))  # has not begun
        models.rollback("m")
        assert (await asked).logits.tolist() == [[20.0]]
        await models.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_models_that_were_let_go_leave_nothing_behind(root: Path) -> None:
    """Twenty changes: of twenty engines two are left, the current one and the one to go back to."""
    import gc
    import weakref

    async def main() -> None:
        models = Models({"m": load_predictor(root / "sum")}, Limits(workers=1), Metrics())
        seen = [weakref.ref(models.get("m"))]
        for i in range(20):
            seen.append(weakref.ref(models.switch("m", load_predictor(root / ("twice", "sum")[i % 2]))))
            await models.get("m").engine.predict([("a", None)])
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        assert [reference() is not None for reference in seen] == [False] * 19 + [True, True]
        await models.close()

    asyncio.run(asyncio.wait_for(main(), 60))


@contextmanager
def connected(address: str) -> Iterator[Callable[..., tuple[int, str, Any]]]:
    """One kept-alive connection: ask(path, body, headers) gives status, the model's digest, and the answer."""
    with closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)) as connection:

        def post(path: str, body: Any, headers: dict[str, str]) -> tuple[int, str, Any]:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
            with connection.getresponse() as response:
                return response.status, response.headers.get("x-model-digest", ""), json.load(response)

        yield post


def test_changing_under_load_over_http(root: Path, tmp_path: Path) -> None:
    """Six clients ask without a pause through changes and roll backs: every answer is one model's, the one it names."""
    (tmp_path / "admins").write_text("admin-key\n")
    texts = list(dict.fromkeys(text for text, _ in rows(300, seed=6)))
    encoded = open_predictor(root / "sum", threads=1).encoder.encode(texts)
    sums = dict(zip(texts, (float(ids.sum()) for ids in encoded.ids), strict=True))
    factor = {digest(root / "sum")[:12]: 1, digest(root / "twice")[:12]: 2}
    options = ("--models-root", str(root), "--admin-keys-file", str(tmp_path / "admins"), "--log-format", "none")
    answers: list[tuple[str, tuple[int, str, Any]]] = []
    stop = threading.Event()

    def client(mine: list[str], address: str) -> None:
        with connected(address) as post:
            for text in itertools.cycle(mine):
                if stop.is_set():
                    return
                answers.append((text, post("/models/sum/predict", {"inputs": text}, {})))

    def change(post: Callable[..., tuple[int, str, Any]], path: str, body: Any) -> None:
        status, _, changed = post(f"/admin/models/sum{path}", body, ADMIN)
        assert status == 200, changed
        reached = len(answers)
        while len(answers) < reached + 30:
            threading.Event().wait(0.01)

    with serving("-m", "serve", str(root / "sum"), "--port", "0", *options) as (_, address):
        threads = [threading.Thread(target=client, args=(texts[i::6], address)) for i in range(6)]
        for thread in threads:
            thread.start()
        try:
            with connected(address) as post:
                for _ in range(6):
                    change(post, "", {"bundle": "twice", "force": True})
                    change(post, "/rollback", {})
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert "te_queue_size 0.0" in ask(address, "/metrics")[1]
    assert {model for _, (_, model, _) in answers} == set(factor)  # both were met
    for text, (status, model, answer) in answers:
        assert (status, answer) == (200, [{"label": "score", "score": sums[text] * factor[model]}])


def test_log_lines_reach_the_logger() -> None:
    """Guards the test above about logs: what is logged is seen."""
    with log_lines(JsonFormatter()) as lines:
        logging.getLogger("serve.requests").info("private")
    assert "private" in lines[0]


def test_with_a_required_signature_only_signed_bundles_start_and_replace(root: Path, tmp_path: Path) -> None:
    public = write_keys(tmp_path / "key")
    for name in ("old", "near", "opposite"):
        shutil.copytree(root / name, tmp_path / "models" / name)
        if name != "opposite":
            sign_bundle(open_bundle(tmp_path / "models" / name), tmp_path / "key")
    config = ServeConfig((), models_root=str(tmp_path / "models"), require_signature=str(public))
    app = create_app(
        {"old": tmp_path / "models" / "old"}, config=config, limits=Limits(workers=1), keys=ApiKeySet(),
        admin_keys=ApiKeySet(["admin-key"]),
    )  # fmt: skip
    with TestClient(app, raise_server_exceptions=False) as client:
        assert "is not signed" in swap(client, "old", "opposite", force=True).text
        assert swap(client, "old", "near").status_code == 200
    with pytest.raises(ToolkitError, match="is not signed"):
        build_app(ServeConfig((str(tmp_path / "models" / "opposite"),), require_signature=str(public)))
