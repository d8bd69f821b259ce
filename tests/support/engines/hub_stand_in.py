"""A Hub on loopback: repositories, commits and large files, as huggingface_hub asks for them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.support.web.loopback import Answering, Loopback

TOKEN = "hf_alicesOwnToken0123456789"
REGULAR_BYTES = 10 * 10**6
"""A larger file goes by LFS, and so does each of these kinds, as on the Hub."""
LFS_KINDS = (".safetensors", ".parquet")


@dataclass
class Repository:
    """One, at its last commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    head: str = "0" * 40
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """What it holds and what it was asked for."""

    url: str = ""
    owners: dict[str, set[str]] = field(default_factory=lambda: {TOKEN: {"alice"}})
    """The names that each token may write to: the account's, and then those of its organizations."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By "models/owner/name"."""
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and words for each request whose path has this in it."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path."""
    tokens: set[str] = field(default_factory=set)
    large: dict[str, bytes] = field(default_factory=dict)
    hangs: threading.Event = field(default_factory=threading.Event)
    """Set when a request whose fault has the status 0 may end."""


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    hub = Hub()
    server = Loopback(_Handler, hub=hub)
    hub.url = server.url
    try:
        yield hub
    finally:
        hub.hangs.set()
        server.stop()


class _Handler(Answering):
    hub: Hub

    def answer(self) -> None:
        body, token = self.body(), self.token
        path = unquote(self.path.partition("?")[0])
        self.hub.asked.append((self.command, path))
        if token:
            self.hub.tokens.add(token)
        for part, (status, words) in self.hub.faults.items():
            if part in path:
                if status:
                    return self._json({"error": words}, status, words)
                self.hub.hangs.wait(600)
                self.close_connection = True
                return None
        if not path.startswith("/lfs/") and token and token not in self.hub.owners:
            words = "Invalid credentials in Authorization header"
            return self._json({"error": words}, 401, words)
        for method, pattern, route in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                return route(self, body, token, *match.groups())
        return self._json({"error": f"no route {path}"}, 404, "Not here")

    def _may_write(self, token: str, owner: str) -> bool:
        return owner in self.hub.owners.get(token, ())

    def _require(self, token: str, kind: str, name: str) -> Repository | None:
        there = self.hub.repositories.get(f"{kind}/{name}")
        if there is None or (there.private and not self._may_write(token, name.split("/")[0])):
            self._json({"error": "Repository not found"}, 404, "Repository not found", code="RepoNotFound")
            return None
        return there

    def _info(self, _: bytes, token: str, kind: str, name: str) -> None:
        if there := self._require(token, kind, name):
            files = [{"rfilename": file, "size": len(content)} for file, content in there.files.items()]
            self._json({"id": name, "sha": there.head, "private": there.private, "siblings": files, "tags": []})

    def _who(self, _: bytes, token: str) -> None:
        name, *others = sorted(self.hub.owners[token])
        self._json({"type": "user", "name": name, "orgs": [{"type": "org", "name": other} for other in others]})

    def _create(self, body: bytes, token: str) -> None:
        asked = json.loads(body)
        kind, owner = f"{asked.get('type') or 'model'}s", asked["organization"]
        name = f"{owner}/{asked['name']}"
        if not self._may_write(token, owner):
            return self._json(
                {"error": "No rights"}, 403, f"You don't have the rights to create a {kind} under {owner}"
            )
        if f"{kind}/{name}" in self.hub.repositories:
            return self._json({"error": "You already created this repo"}, 409)
        self.hub.repositories[f"{kind}/{name}"] = Repository(private=asked.get("visibility") == "private")
        prefix = "" if kind == "models" else f"{kind}/"
        return self._json({"url": f"{self.hub.url}/{prefix}{name}", "id": name})

    def _validate(self, body: bytes, token: str) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, body: bytes, token: str, kind: str, name: str) -> None:
        def mode(file: dict) -> str:
            return "lfs" if file["size"] > REGULAR_BYTES or file["path"].endswith(LFS_KINDS) else "regular"

        files = json.loads(body)["files"]
        self._json({"files": [{"path": f["path"], "uploadMode": mode(f), "shouldIgnore": False} for f in files]})

    def _batch(self, body: bytes, token: str, name: str) -> None:
        asked = json.loads(body)
        assert "sha256" == asked["hash_algo"]
        actions = [
            {**of, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{of['oid']}"}}} for of in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": actions})

    def _large(self, body: bytes, token: str, oid: str) -> None:
        assert oid == hashlib.sha256(body).hexdigest()
        self.hub.large[oid] = body
        self._json({})

    def _commit(self, body: bytes, token: str, kind: str, name: str) -> None:
        if not (there := self._require(token, kind, name)):
            return None
        lines = [json.loads(line) for line in body.splitlines() if line]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    if value.get("parentCommit") not in (None, there.head):
                        return self._json({"error": "The branch has moved"}, 412, "The branch has moved")
                    there.commits.append(value["summary"])
                case "file":
                    there.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    there.files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del there.files[value["path"]]
        there.head = hashlib.sha1(body + there.head.encode()).hexdigest()
        return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{there.head}", "commitOid": there.head})

    def _file(self, _: bytes, token: str, prefix: str, name: str, revision: str, file: str) -> None:
        if not (there := self._require(token, (prefix or "models").rstrip("/"), name)):
            return
        if file not in there.files:
            return self._json({"error": "Entry not found"}, 404, "Entry not found", code="EntryNotFound")
        content = there.files[file]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": there.head}
        self.reply(content, 200, headers)

    def _json(self, value: object, status: int = 200, words: str = "", code: str = "") -> None:
        headers = {"X-Error-Message": words} if words else {}
        headers |= {"X-Error-Code": code} if code else {}
        self.reply(value, status, headers)


NAME = r"([^/]+/[^/]+)"
KIND = r"(models|datasets|spaces)"
ROUTES = [
    ("GET", rf"/api/{KIND}/{NAME}", _Handler._info),
    ("GET", "/api/whoami-v2", _Handler._who),
    ("POST", "/api/repos/create", _Handler._create),
    ("POST", "/api/validate-yaml", _Handler._validate),
    ("POST", rf"/api/{KIND}/{NAME}/preupload/main", _Handler._preupload),
    ("POST", rf"/(?:datasets/|spaces/)?{NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", _Handler._large),
    ("POST", rf"/api/{KIND}/{NAME}/commit/main", _Handler._commit),
    *((method, rf"/(datasets/|spaces/)?{NAME}/resolve/([^/]+)/(.+)", _Handler._file) for method in ("GET", "HEAD")),
]
