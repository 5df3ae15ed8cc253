"""A model hub on this machine: an HTTP server that speaks as much of the hub's API as huggingface_hub calls."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stmn.runtime.hub import fetch_model

TOKEN = "hf_ofthetests"


class Hub(ThreadingHTTPServer):
    """The server. `repositories` has for each name its commits, oldest first: file name -> content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str) -> dict[str, bytes]:
        """The newest files of a repository."""
        return self.repositories[name][-1]

    def commit(self, name: str, **files: bytes) -> str:
        """Add a commit; underscores in names of files stand for dots. Returns its id."""
        commits = self.repositories.setdefault(name, [])
        new = {key.replace("_", "."): value for key, value in files.items()}
        commits.append({**(commits[-1] if commits else {}), **new})
        return commit_id(name, len(commits) - 1)


def commit_id(name: str, number: int) -> str:
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


@contextmanager
def serve_hub(monkeypatch: pytest.MonkeyPatch, cache: Path, token: str | None = TOKEN) -> Iterator[Hub]:
    """Run a hub for a block, and let huggingface_hub know no other; `cache` is its cache."""
    hub = Hub()
    Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    use_hub(monkeypatch, hub.address, cache, token)
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        fetch_model.cache_clear()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path, token: str | None = TOKEN) -> None:
    """Make the hub at an address the one that huggingface_hub knows."""
    fetch_model.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # plain HTTP for large files
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Hub
    protocol_version = "HTTP/1.0"  # each request is a connection of its own, so a hub that is down is down

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        """Make a repository; say how files are sent; take a commit."""
        body, path = self._body(), self.path.partition("?")[0]
        self.server.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization") or "ada", asked["name"]]))
            if name in self.server.repositories:
                return self._send(409, json.dumps({"url": f"{self.server.address}/{name}"}).encode(), {})
            self.server.repositories[name] = []
            self.server.private |= {name} if asked.get("private") or asked.get("visibility") == "private" else set()
            return self._answer({"url": f"{self.server.address}/{name}"})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "lfs" if p.endswith("tensors") else "regular", "shouldIgnore": False}
                     for p in files]  # fmt: skip
            return self._answer({"files": modes})
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.server.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self._refuse(404, "RepoNotFound")

    def _commit(self, name: str, lines: list[dict]) -> None:
        commits, files = self.server.repositories[name], {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        commits.append({**(commits[-1] if commits else {}), **files})
        oid = commit_id(name, len(commits) - 1)
        self._answer({"commitUrl": f"{self.server.address}/{name}/commit/{oid}", "commitOid": oid})

    def _read(self) -> None:
        """A file of a repository."""
        self.server.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        name, revision, file = found.groups() if found else ("", "", "")
        commits = self.server.repositories.get(name, [])
        known = self.headers.get("authorization") == f"Bearer {TOKEN}"
        if not commits or (name in self.server.private and not known):
            return self._refuse(401 if not known else 404, "RepoNotFound", "Repository not found")
        if name in self.server.gated:
            return self._refuse(403, "GatedRepo")
        ids = {commit_id(name, number): number for number in range(len(commits))} | {"main": len(commits) - 1}
        if revision not in ids:
            return self._refuse(404, "RevisionNotFound")
        oid, files = commit_id(name, ids[revision]), commits[ids[revision]]
        if file not in files:
            return self._refuse(404, "EntryNotFound", headers={"X-Repo-Commit": oid})
        content = files[file]
        etag = hashlib.sha256(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": oid})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, content: dict) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        own = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._send(status, json.dumps({"error": message}).encode(), own | (headers or {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
