"""Names that may be on the hub, paths that are mistyped, and a hub that is asked once."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.support.command_line import process, refused
from toolkit.data import hub
from toolkit.data.hub import OFFLINE_VARIABLES, check_model_name, hub_answers, not_on_disk
from toolkit.errors import ToolkitError


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable says offline, and no answer is remembered."""
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    hub_answers.cache_clear()
    yield
    hub_answers.cache_clear()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_hub_that_refuses_connections_does_not_answer(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    assert not hub_answers()


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_is_an_answer_and_one_is_enough(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert hub_answers()
        assert hub_answers()
        server.shutdown()
    assert len(asked) == 1


def test_a_certificate_that_is_not_known_here_is_left_to_the_hub_s_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError(ssl.SSLCertVerificationError("self-signed"))

    monkeypatch.setattr(hub.urllib.request, "urlopen", fail)
    assert hub_answers()


def test_variables_that_say_offline_are_believed_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.urllib.request, "urlopen", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_answers()


@pytest.mark.parametrize("name", ["/none/at/all", "./teachr", "../x", "~/x", "runs/teachr", "a/b/c", "runs/teachr/"])
def test_paths_that_do_not_exist_are_no_names_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolkitError, match="no such directory") as caught:
        check_model_name(name)
    assert caught.value.fix == ("runs/teacher" if name.startswith("runs") else "")


@pytest.mark.parametrize("name", ["bert-base-uncased", "google/bert_uncased_L-2_H-128_A-2", "runs/teacher", "runs"])
def test_directories_and_names_of_the_hub_pass(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    check_model_name(name)


def test_a_name_that_is_not_here_offers_a_directory_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not_on_disk("teachr").fix == "teacher"


def test_the_command_says_it_in_one_sentence(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    common = ("--task", "rotten-tomatoes", "--out", tmp_path / "o")
    assert refused(process("finetune", "--model", "bert-base-uncased", *common)) == (
        "error: bert-base-uncased is neither a directory nor a model of the hub that is on this machine, and the hub "
        f"cannot be reached ({endpoint})\nexpected: a directory with a model, or a network\n"
    )
    message = refused(process("finetune", "--model", "bert-base-uncased", "--task", "rte", "--out", tmp_path / "o"))
    assert message.startswith("error: cannot read the data set nyu-mll/glue: the hub cannot be reached\n")
