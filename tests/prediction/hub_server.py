"""A Hugging Face Hub on this machine, as far as huggingface_hub's client needs one to fetch and to push files."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.file_server import listening

TOKEN = "hf_of_the_owner"


@dataclass
class HubServer:
    """Repositories as lists of commits, each all files by name; ``tags`` are names of commits, by their number.

    ``private`` repositories are shown to who has :data:`TOKEN`. ``requests`` are methods and paths.
    """

    url: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def commit(self, name: str, revision: str) -> int | None:
        """Return a commit's number; None where there is no such revision."""
        commits = self.repositories[name]
        shas = {self.sha(number): number for number in range(len(commits))}
        return {"main": len(commits) - 1, **self.tags, **shas}.get(revision)

    @staticmethod
    def sha(number: int) -> str:
        return hashlib.sha1(str(number).encode()).hexdigest()

    def downloaded(self) -> list[str]:
        """Return the names of the files that were fetched."""
        return sorted(
            {path.rpartition("/")[2] for path in self.requests if path.startswith("GET") and "/resolve/" in path}
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._do()

    def do_HEAD(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if not self._is_owner():
                return self._fail(401, "")
            hub.repositories.setdefault(name, [{}])
            return self._json({"url": f"{hub.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        words = path.strip("/").split("/")
        name = "/".join(words[2:4] if words[0] == "api" else words[:2])
        if name not in hub.repositories or (name in hub.private and not self._is_owner()):
            return self._fail(401, "RepoNotFound")
        return self._api(hub, name, words[4:], body) if words[0] == "api" else self._file(hub, name, words[3:])

    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _api(self, hub: HubServer, name: str, words: list[str], body: bytes) -> None:
        what, revision = [*words, "revision", "main"][:2]
        number = hub.commit(name, revision)
        if number is None:
            return self._fail(404, "RevisionNotFound")
        files = hub.repositories[name][number]
        if what == "tree":
            return self._json(
                [{"type": "file", "path": k, "size": len(v), "oid": _etag(v)} for k, v in sorted(files.items())]
            )
        if what == "preupload":
            asked = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]}
            )
        if what == "commit":
            added = [json.loads(line) for line in body.splitlines()]
            if added[0]["value"].get("parentCommit", hub.sha(number)) != hub.sha(number):
                return self._fail(412, "PreconditionFailed")
            new = {
                one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in added if one["key"] == "file"
            }
            hub.repositories[name].append(files | new)
            sha = hub.sha(len(hub.repositories[name]) - 1)
            return self._json({"commitUrl": f"{hub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})
        siblings = [{"rfilename": one} for one in sorted(files)]
        return self._json({"id": name, "sha": hub.sha(number), "siblings": siblings, "tags": [], "downloads": 0})

    def _file(self, hub: HubServer, name: str, words: list[str]) -> None:
        number = hub.commit(name, words[0])
        files = {} if number is None else hub.repositories[name][number]
        if number is None or words[1] not in files:
            return self._fail(404, "RevisionNotFound" if number is None else "EntryNotFound")
        data = files[words[1]]
        return self._send(200, data, {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": hub.sha(number)})

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": "an error of the\nserver"} if code else {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value.replace("\n", " "))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run a Hub without repositories until the block ends."""
    with listening(Handler) as (server, url):
        server.hub = HubServer(url)  # type: ignore[attr-defined]
        yield server.hub  # type: ignore[attr-defined]
