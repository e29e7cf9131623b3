"""A small model hub on the loopback, so that the real client libraries can be tested without a network.

It serves repositories of files kept in memory: branches that move, tags, gated repositories, limits of requests and
transfers that break off.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import pytest
from huggingface_hub import constants

LARGE = (".safetensors", ".gguf", ".parquet", ".bin")
"""Endings of files that a hub keeps as large ones, known by their SHA-256; others are known by git's own checksum."""


@dataclass
class Repository:
    """Files by commit, and the commit of every branch and tag."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False


class StandInHub:
    """Serves repositories by kind (`models` or `datasets`) and name (`org/name`) until it is closed."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[str] = []
        self.limited = 0
        """How many of the next requests are answered with "too many requests"."""
        self.breaking = 0
        """How many of the next transfers of large files break off half way."""
        self.resumed = 0
        """How many transfers asked for the rest of a file alone."""
        self.failing = 0
        """With which status every request is answered; 0: as usual."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, kind: str, name: str, files: Mapping[str, bytes | str], *refs: str) -> str:
        """Adds a commit with just these files and moves the refs (`main` where none is named) to it."""
        contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        repository = self.repositories.setdefault((kind, name), Repository())
        digest = hashlib.sha1(f"{kind} {name} {len(repository.commits)}".encode())
        for path, data in sorted(contents.items()):
            digest.update(path.encode() + data)
        commit = digest.hexdigest()
        repository.commits[commit] = contents
        repository.refs |= dict.fromkeys(refs or ("main",), commit)
        return commit

    def fetched(self, name: str) -> list[str]:
        """Paths of the files of a repository that were sent, in order."""
        sent = [line.partition(" ")[2] for line in self.requests if line.startswith("GET ")]
        return [
            path.split("/", 1)[1]
            for line in sent
            if f"{name}/resolve/" in line
            for path in [line.split("/resolve/")[1]]
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving() -> Iterator[StandInHub]:
    """A hub for the length of a `with`."""
    hub = StandInHub()
    try:
        yield hub
    finally:
        hub.close()


def send_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the client libraries of this process ask another hub, as HF_ENDPOINT does for a new one."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_HUB_OFFLINE=1 does for a new process."""
    for switches in (constants, datasets.config):
        monkeypatch.setattr(switches, "HF_HUB_OFFLINE", True)


def _handler(hub: StandInHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _answer(self, body: bytes) -> None:
            hub.requests.append(f"{self.command} {unquote(self.path)}")
            if hub.limited:
                hub.limited -= 1
                return self._error(429, headers={"RateLimit": '"api";r=0;t=1', "Retry-After": "1"})
            if hub.failing:
                return self._error(hub.failing)
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if parts[0] == "api" and len(parts) >= 4:
                return self._api(parts[1], "/".join(parts[2:4]), parts[4:], body)
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            if len(parts) >= 5 and parts[2] == "resolve":
                return self._file(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            return self._error(404)

        def _api(self, kind: str, name: str, rest: list[str], body: bytes) -> None:
            repository = hub.repositories.get((kind, name))
            if repository is None:
                return self._error(404, "RepoNotFound")
            what, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
            commit = repository.refs.get(revision, revision)
            files = repository.commits.get(commit)
            if files is None:
                return self._error(404, "RevisionNotFound")
            if what == "revision":
                return self._json(
                    {
                        "id": name,
                        "modelId": name,
                        "sha": commit,
                        "private": False,
                        "gated": "manual" if repository.gated else False,
                        "tags": [],
                        "siblings": [{"rfilename": path} for path in files],
                    }
                )
            if what == "tree":
                query = parse_qs(urlsplit(self.path).query)
                everything = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                return self._json(list(_entries(files, "/".join(rest[2:]), everything)))
            if what == "paths-info":
                wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
                return self._json([_entry(path, files[path]) for path in wanted if path in files])
            return self._error(404)

        def _file(self, kind: str, name: str, revision: str, path: str) -> None:
            repository = hub.repositories.get((kind, name))
            if repository is None:
                return self._error(404, "RepoNotFound")
            if repository.gated:
                status = 403 if "Authorization" in self.headers else 401
                return self._error(status, "GatedRepo")
            commit = repository.refs.get(revision, revision)
            if commit not in repository.commits:
                return self._error(404, "RevisionNotFound")
            data = repository.commits[commit].get(path)
            if data is None:
                return self._error(404, "EntryNotFound", headers={"X-Repo-Commit": commit})
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", f'"{_etag(path, data)}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Accept-Ranges", "bytes")
            if "Range" in self.headers:
                hub.resumed += start > 0
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if self.command == "HEAD":
                return None
            if hub.breaking and path.endswith(LARGE):
                hub.breaking -= 1
                self.wfile.write(data[start : (start + len(data)) // 2])
                self.close_connection = True
                return None
            self.wfile.write(data[start:])
            return None

        def _error(self, status: int, code: str = "", headers: Mapping[str, str] | None = None) -> None:
            named = {"X-Error-Code": code, "X-Error-Message": f"refused: {code}"} if code else {}
            self._json({"error": f"refused {code}".strip()}, status, {**named, **(headers or {})})

        def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler


def _git_checksum(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _etag(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else _git_checksum(data)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "oid": _git_checksum(data), "size": len(data), "path": path}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _entries(files: Mapping[str, bytes], under: str, everything: bool) -> Iterator[dict[str, Any]]:
    folders = set()
    for path, data in sorted(files.items()):
        if under and not path.startswith(f"{under}/"):
            continue
        inside = path.removeprefix(f"{under}/") if under else path
        *above, _ = inside.split("/")
        for depth in range(1, len(above) + 1 if everything else min(len(above), 1) + 1):
            folders.add("/".join([*([under] if under else []), *above[:depth]]))
        if everything or not above:
            yield _entry(path, data)
    for folder in sorted(folders):
        yield {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
