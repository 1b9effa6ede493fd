"""A Hugging Face hub in this process: its endpoints for repositories, commits, large files and downloads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_writer"
LARGE = (".onnx", ".safetensors")  # as a repository's .gitattributes has them


@dataclass
class Repository:
    """The commits of a repository: name of each and its files, the last one last."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits.append((name, files))
        return name

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


@dataclass
class Hub:
    """The state of the hub, and every request that it got as (method, path, token)."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    broken: str = ""  # requests whose path holds it get no answer


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers at `hub.url` until the end."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.state.requests.append((self.command, path, token))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.state.broken and self.state.broken in path:
            self.close_connection = True
            return
        if token not in ("", TOKEN):
            self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
        elif self.command == "PUT":
            self.state.large[path.rpartition("/")[2]] = body
            self.answer(200)
        elif path in ("/", "/api/validate-yaml"):
            self.json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(body), token)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit)/(.+))?", path):
            self.repository(*match.groups(), body, token)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(json.loads(body))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*match.groups(), token)
        else:
            self.answer(404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    def create(self, wish: dict[str, Any], token: str) -> None:
        if token != TOKEN:
            self.answer(401)
            return
        name = f"{wish['organization']}/{wish['name']}"
        repository = self.state.repositories[name] = Repository(wish["private"])
        repository.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self.json({"url": f"{self.state.url}/{name}", "name": name})

    def visible(self, name: str, token: str) -> Repository | None:
        repository = self.state.repositories.get(name)
        if repository is None or (repository.private and token != TOKEN):
            self.answer(404 if token else 401, X_Error_Code="RepoNotFound")
            return None
        return repository

    def repository(self, name: str, kind: str | None, revision: str | None, body: bytes, token: str) -> None:
        if (repository := self.visible(name, token)) is None:
            return
        if kind == "preupload":
            self.json({"files": [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                 "shouldIgnore": False} for file in json.loads(body)["files"]
            ]})  # fmt: skip
        elif kind == "commit":
            self.commit(name, repository, [json.loads(line) for line in body.splitlines()], token)
        elif (commit := repository.at(revision or "main")) is None:
            self.answer(404, X_Error_Code="RevisionNotFound")
        else:
            siblings = [{"rfilename": file, "size": len(content)} for file, content in commit[1].items()]
            self.json({"id": name, "sha": commit[0], "private": repository.private, "siblings": siblings})

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]], token: str) -> None:
        if token != TOKEN:
            self.answer(403)
            return
        files = dict(repository.commits[-1][1])
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.state.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files)
        self.json({"commitUrl": f"{self.state.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def batch(self, wish: dict[str, Any]) -> None:
        objects = [
            {**file, "actions": {"upload": {"href": f"{self.state.url}/large/{file['oid']}", "header": {}}}}
            for file in wish["objects"]
        ]
        self.json({"transfer": "basic", "objects": objects})

    def resolve(self, name: str, revision: str, file: str, token: str) -> None:
        if (repository := self.visible(name, token)) is None:
            return
        commit = repository.at(revision)
        if commit is None or file not in commit[1]:
            self.answer(404, X_Error_Code="EntryNotFound")
            return
        content = commit[1][file]
        self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=commit[0])
