"""A stand-in for the Hugging Face Hub on this machine: the endpoints that a push and a read need.

A commit is a dictionary from path to file, and a branch names one. Large and binary files go
through the LFS protocol, and are served by a redirect, as there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

HOST = "127.0.0.1"
TOKEN = "hf_local"
SMALL_BYTES = 10_000_000


@dataclass(frozen=True)
class File:
    """One file of a commit."""

    content: bytes
    is_large: bool

    @property
    def blob(self) -> str:
        """What git calls it: of a large file, its pointer."""
        content = self.content
        if self.is_large:
            oid = hashlib.sha256(content).hexdigest()
            head = "version https://git-lfs.github.com/spec/v1"
            content = f"{head}\noid sha256:{oid}\nsize {len(content)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """As a listing shows it."""
        found = {"type": "file", "path": path, "size": len(self.content), "oid": self.blob}
        if self.is_large:
            oid = hashlib.sha256(self.content).hexdigest()
            found |= {"lfs": {"oid": oid, "size": len(self.content), "pointerSize": 134}}
        return found


Tree = dict[str, File]


@dataclass
class Repo:
    """A repository: its commits, by name, and where its branches are."""

    private: bool
    commits: dict[str, Tree] = field(default_factory=dict)
    branches: dict[str, list[str]] = field(default_factory=dict)
    """Name -> its commits, newest last."""

    def add(self, branch: str, tree: Tree) -> str:
        """Commit a tree."""
        history = self.branches.setdefault(branch, [])
        names = {path: file.blob for path, file in sorted(tree.items())}
        name = hashlib.sha1(json.dumps([history, names]).encode()).hexdigest()
        self.commits[name] = dict(tree)
        history.append(name)
        return name

    def tree(self, revision: str) -> Tree | None:
        """Of a branch or a commit."""
        return self.commits.get(self.sha(revision))

    def sha(self, revision: str) -> str:
        """The commit of a branch; of a commit itself."""
        return self.branches[revision][-1] if revision in self.branches else revision


@dataclass
class LocalHub:
    """A running stand-in; `ada` may write to `ada/...`, and nobody else's."""

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    """models/ada/x or datasets/ada/x -> it."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """sha256 -> content of what was uploaded."""
    log: list[str] = field(default_factory=list)
    """METHOD path of every request, and "bytes=..." where a part was asked for."""
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    """(method, path) -> a status to answer with instead."""

    def tree(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """path -> content."""
        found = self.repos[repo].tree(revision)
        assert found is not None
        return {path: file.content for path, file in found.items()}


class RefusalError(Exception):
    """Ends a request with a status."""

    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        self.status, self.code, self.text = status, code, text


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """Start a stand-in, and let `huggingface_hub` in this process speak to it, with a token.

    Its constants are read from the environment when it is imported, so they are set as well.
    """
    hub = LocalHub()
    server = ThreadingHTTPServer((HOST, 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://{HOST}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        _point(monkeypatch, hub.endpoint)
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _point(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    from huggingface_hub import constants

    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")


def environment(endpoint: str) -> dict[str, str]:
    """What a process of its own needs."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
    }


REPO = r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"{REPO}(?:/revision/(?P<revision>[^/]+))?", "info"),
    ("POST", rf"{REPO}/branch/(?P<revision>[^/]+)", "branch"),
    ("POST", rf"{REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", rf"{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", "listing"),
    ("POST", r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<path>\w+)", "upload"),
    ("GET", r"/lfs/(?P<path>\w+)", "blob"),
    (
        "GET",
        r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        "resolve",
    ),
]


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        split = urlsplit(self.path)
        part = self.headers.get("Range")
        self.hub.log.append(f"{self.command} {unquote(split.path)}" + (f" {part}" if part else ""))
        try:
            self._obey(self.hub.refuse(self.command, unquote(split.path)))
            self._route(split.path, parse_qs(split.query), body)
        except RefusalError as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.text}
            self._send(refusal.status, json.dumps({"error": refusal.text}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _obey(self, status: int | None) -> None:
        if status:
            raise RefusalError(status, text="told to refuse")

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in ROUTES:
            if method == verb and (match := re.fullmatch(pattern, path)):
                given = {key: unquote(value or "") for key, value in match.groupdict().items()}
                getattr(self, f"_{name}")(query=query, body=body, **given)
                return
        raise RefusalError(404, text=f"no such endpoint: {method} {path}")

    # --- answers -------------------------------------------------------------------------------

    def _whoami(self, **_: Any) -> None:
        self._require_token()
        self._json({"type": "user", "name": "ada", "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, body: bytes, **_: Any) -> None:
        self._require_token()
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'ada'}/{wanted['name']}"
        key = f"{wanted.get('type', 'model')}s/{name}"
        url = f"{self.hub.endpoint}/{key.removeprefix('models/')}"
        if key in self.hub.repos:
            self._json({"error": "You already created this repo", "url": url}, 409)
            return
        self._require_writer(name)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.repos[key] = Repo(private)
        self.hub.repos[key].add("main", {".gitattributes": File(b"*.bin filter=lfs\n", False)})
        self._json({"url": url})

    def _validate(self, body: bytes, **_: Any) -> None:
        import yaml

        head = json.loads(body)["content"].split("---")[1]
        if not isinstance(yaml.safe_load(head), dict):
            raise RefusalError(400, text="no metadata")
        self._json({"errors": [], "warnings": []})

    def _info(self, kind: str, repo: str, revision: str = "", **_: Any) -> None:
        found = self._repo(kind, repo)
        tree, sha = self._tree(found, revision or "main"), found.sha(revision or "main")
        siblings = [{"rfilename": path} for path in tree]
        about = {"id": repo, "sha": sha, "private": found.private, "tags": [], "downloads": 0}
        self._json(about | {"siblings": siblings, "likes": 0})

    def _branch(self, kind: str, repo: str, revision: str, **_: Any) -> None:
        self._require_writer(repo)
        found = self._repo(kind, repo)
        if revision in found.branches:
            raise RefusalError(409, text="Reference already exists")
        found.branches[revision] = list(found.branches["main"])
        self._json({})

    def _preupload(self, kind: str, repo: str, revision: str, body: bytes, **_: Any) -> None:
        self._require_writer(repo)
        tree = self._tree(self._repo(kind, repo), revision)
        answer = []
        for wanted in json.loads(body)["files"]:
            path, sample = wanted["path"], base64.b64decode(wanted["sample"])
            binary = b"\0" in sample or path.endswith((".arrow", ".safetensors"))
            mode = "lfs" if binary or wanted["size"] > SMALL_BYTES else "regular"
            there = tree.get(path)
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
            if there:
                sha = hashlib.sha256(there.content).hexdigest()
                answer[-1]["oid"] = sha if there.is_large else there.blob
        self._json({"files": answer})

    def _batch(self, repo: str, body: bytes, **_: Any) -> None:
        self._require_writer(repo)
        objects = []
        for wanted in json.loads(body)["objects"]:
            oid = wanted["oid"]
            objects.append({"oid": oid, "size": wanted["size"]})
            if oid not in self.hub.blobs:
                objects[-1]["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{oid}"}}
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, path: str, body: bytes, **_: Any) -> None:
        if hashlib.sha256(body).hexdigest() != path:
            raise RefusalError(400, text="other bytes than announced")
        self.hub.blobs[path] = body
        self._json({})

    def _commit(self, kind: str, repo: str, revision: str, body: bytes, **_: Any) -> None:
        self._require_writer(repo)
        found = self._repo(kind, repo)
        tree = dict(self._tree(found, revision))
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    parent = value.get("parentCommit")
                    if parent not in (None, found.branches[revision][-1]):
                        raise RefusalError(412, text="A commit has happened since")
                case "file":
                    tree[value["path"]] = File(base64.b64decode(value["content"]), False)
                case "lfsFile":
                    tree[value["path"]] = File(self.hub.blobs[value["oid"]], True)
                case "deletedFile":
                    del tree[value["path"]]
        oid = found.add(revision, tree)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{oid}"})

    def _listing(
        self,
        kind: str,
        repo: str,
        revision: str,
        query: dict[str, list[str]],
        path: str = "",
        **_: Any,
    ) -> None:
        tree = self._tree(self._repo(kind, repo), revision)
        prefix = f"{path}/" if path else ""
        below = {name: file for name, file in tree.items() if name.startswith(prefix)}
        if path and not below:
            raise RefusalError(404, "EntryNotFound", f"{path} does not exist")
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, dict[str, Any]] = {}
        for name, file in sorted(below.items()):
            parts = name.removeprefix(prefix).split("/")
            folders = range(1, len(parts)) if recursive else range(1, min(2, len(parts)))
            for count in folders:
                folder = prefix + "/".join(parts[:count])
                entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
            if recursive or len(parts) == 1:
                entries[name] = file.entry(name)
        self._json(list(entries.values()))

    def _resolve(self, repo: str, revision: str, path: str, kind: str = "", **_: Any) -> None:
        found = self._repo(kind.rstrip("/") or "models", repo)
        tree = self._tree(found, revision)
        if path not in tree:
            raise RefusalError(404, "EntryNotFound", f"{path} does not exist")
        file = tree[path]
        oid = hashlib.sha256(file.content).hexdigest()
        headers = {
            "ETag": f'"{oid if file.is_large else file.blob}"',
            "X-Repo-Commit": found.sha(revision),
        }
        if file.is_large:
            self.hub.blobs.setdefault(oid, file.content)
            elsewhere = self.hub.endpoint.replace(HOST, "localhost")  # another host, as there
            headers |= {"Location": f"{elsewhere}/lfs/{oid}"}
            headers |= {"X-Linked-Size": str(len(file.content)), "X-Linked-Etag": f'"{oid}"'}
            self._send(302, b"", headers)
        else:
            self._content(file.content, headers)

    def _blob(self, path: str, **_: Any) -> None:
        self._content(self.hub.blobs[path], {})

    # --- their parts ---------------------------------------------------------------------------

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not match:
            self._send(200, content, headers)
            return
        start, stop = int(match[1]), int(match[2] or len(content) - 1) + 1
        if start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        part = content[start:stop]
        span = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        self._send(206, part, headers | {"Content-Range": span})

    def _repo(self, kind: str, repo: str) -> Repo:
        found = self.hub.repos.get(f"{kind}/{repo}")
        if found is None or (found.private and not self._knows()):
            raise RefusalError(
                404 if self._knows() else 401, "RepoNotFound", "Repository not found"
            )
        return found

    def _tree(self, repo: Repo, revision: str) -> Tree:
        found = repo.tree(revision)
        if found is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _require_token(self) -> None:
        if not self._knows():
            raise RefusalError(401, text="Invalid username or password.")

    def _require_writer(self, repo: str) -> None:
        self._require_token()
        if not repo.startswith("ada/"):
            raise RefusalError(403, text="You don't have the rights to do that")

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
