"""A small Hugging Face Hub on a loopback port, for the calls that huggingface_hub 1.x and 2.x and evaluate make.

It keeps repositories in memory and speaks the routes to make one, to read one (info, tree, resolve) and to commit to
one; Parquet goes by the storage for large files, as at the real one. It proves that our calls are whole and in order.
It does not prove what the real server accepts: that one checks cards, sizes, names, rights and subscriptions in ways of
its own.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_of_the_fake"  # noqa: S105 - it opens nothing but the fake


@dataclass
class Repo:
    """A repository: its files after each commit."""

    sdk: str | None
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    """Names of all files that were sent, in order."""
    private: bool = False
    gated: bool = False
    """Whether its terms were not accepted: it says that it is there, and gives nothing."""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1] if self.commits else {}

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr(self.commits).encode(), usedforsecurity=False).hexdigest()


class FakeHub:
    """The server; `with FakeHub() as hub` runs it. Repositories are named like `spaces/org/name`."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.refuse: dict[str, int] = {}
        """Status to answer requests with whose "METHOD /path" begins so, such as {"POST /api/repos/create": 403}."""
        self.cut: dict[str, int] = {}
        """Files, by name, of which every answer breaks off after so many bytes."""
        self.requests: list[str] = []
        self.large_files: dict[str, bytes] = {}
        """By sha256, what was sent to the large file storage."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str = TOKEN) -> dict[str, str]:
        """Variables that send a new process here and nowhere else."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        }


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self._read_body()
        self.query = urlsplit(self.path).query
        self.path = unquote(urlsplit(self.path).path)
        asked = f"{self.command} {self.path}"
        self.hub.requests.append(asked)
        if status := next((code for start, code in self.hub.refuse.items() if asked.startswith(start)), None):
            self._say(status, {"error": f"refused with {status}"})
            return
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not authorized and (self.command == "POST" or self.path == "/api/whoami-v2"):
            self._say(401, {"error": "Invalid username or password."})
        elif asked == "GET /api/whoami-v2":
            self._say(200, {"type": "user", "name": "someone", "orgs": []})
        elif asked == "POST /api/validate-yaml":
            self._validate(json.loads(body))
        elif asked == "POST /api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(
            r"/api/(\w+/[^/]+/[^/]+)(?:/(auth-check)|/(revision|tree|paths-info|preupload|commit)/([^/]+)/?(.*))?",
            self.path,
        ):
            if repo := self._repo(found[1], authorized, found[4] or "main", closed=found[2] is not None):
                self._api(found[1], repo, found[3] or "revision", body, found[5] or "")
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._upload(each) for each in json.loads(body)["objects"]]
            self._say(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"PUT /large-files/(\w+)", asked):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.hub.large_files[found[1]] = body
            self._say(200, {})
        elif found := re.fullmatch(r"/((?:(?:spaces|datasets)/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            name = found[1] if found[1].count("/") == 2 else f"models/{found[1]}"
            if repo := self._repo(name, authorized, found[2], closed=True):
                self._file(repo, found[3])
        else:
            self._say(404, {"error": f"the fake has no route for {asked}"})

    def _repo(self, name: str, authorized: bool, revision: str, closed: bool) -> Repo | None:
        """The repository, unless the answer was given already; `closed` is what a gated one does not let through."""
        repo = self.hub.repos.get(name)
        if repo is None:  # the real one does not tell strangers what is missing and what is private
            self._say(404 if authorized else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif repo.gated and closed:
            self._say(403 if authorized else 401, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            return None
        elif revision not in ("main", repo.sha):
            self._say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def _create(self, asked: dict) -> None:
        name = f"{asked.get('type', 'model')}s/{asked.get('organization') or 'someone'}/{asked['name']}"
        if asked.get("type") == "space" and asked.get("sdk") not in ("gradio", "docker", "static"):
            self._say(400, {"error": "sdk is missing"})
        elif name in self.hub.repos:
            self._say(409, {"error": "You already created this repo", "url": f"{self.hub.url}/{name}"})
        else:
            self.hub.repos[name] = Repo(
                asked.get("sdk"),
                [("initial commit", {".gitattributes": b"*.bin lfs\n", "README.md": b"# new\n"})],
                private=asked.get("private") or asked.get("visibility") == "private",
            )
            self._say(200, {"url": f"{self.hub.url}/{name}", "name": name.partition("/")[2]})

    def _validate(self, asked: dict) -> None:
        found = re.match(r"---\n(.*?)\n---\n", asked["content"], re.DOTALL)
        try:
            whole = found is not None and isinstance(yaml.safe_load(found[1]), dict)
        except yaml.YAMLError:
            whole = False
        self._say(*((200, {"errors": []}) if whole else (400, {"errors": [{"message": "no metadata"}]})))

    def _api(self, name: str, repo: Repo, action: str, body: bytes, inside: str) -> None:
        if action in ("tree", "paths-info"):
            self._list(repo, inside, parse_qs(body.decode()).get("paths") if action == "paths-info" else None)
        elif action == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = [(path, "lfs" if is_large(path) else "regular") for path in asked]
            self._say(
                200, {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}
            )
        elif action == "commit":
            header, *operations = [json.loads(line) for line in body.splitlines()]
            if header["value"].get("parentCommit", repo.sha) != repo.sha:
                self._say(412, {"error": "A commit has happened since"})
                return
            files = dict(repo.files)
            for operation in operations:
                path, value = operation["value"]["path"], operation["value"]
                if operation["key"] == "deletedFile":
                    del files[path]
                    continue
                large = operation["key"] == "lfsFile"
                assert operation["key"] in ("file", "lfsFile"), f"the fake cannot commit a {operation['key']}"
                assert large == is_large(path), f"{path} did not come by the storage that was asked for"
                repo.sent.append(path)
                files[path] = self.hub.large_files[value["oid"]] if large else base64.b64decode(value["content"])
            repo.commits.append((header["value"]["summary"], files))
            self._say(200, {"success": True, "commitOid": repo.sha, "commitUrl": f"{self.hub.url}/{name}/commit/1"})
        else:
            siblings = [{"rfilename": path} for path in repo.files]
            facts = {"id": name.partition("/")[2], "sha": repo.sha, "private": repo.private, "sdk": repo.sdk}
            self._say(200, {**facts, "siblings": siblings})

    def _list(self, repo: Repo, folder: str, asked: list[str] | None) -> None:
        """What a folder holds, or all that is below it, or the paths that are asked for."""
        start = f"{folder}/" if folder else ""
        below = {path: data for path, data in sorted(repo.files.items()) if path.startswith(start)}
        if asked is None and not below:
            self._say(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        entries, folders = [], set()
        for path, data in below.items():
            name, deeper, _ = path.removeprefix(start).partition("/")
            if asked is not None and path not in asked:
                continue
            if asked is None and deeper and "recursive=true" not in self.query.lower():
                folders.add(start + name)
            else:
                entries.append({"type": "file", "path": path, "size": len(data), "oid": git_id(data)})
                if is_large(path):
                    sha256 = hashlib.sha256(data).hexdigest()
                    entries[-1] |= {
                        "oid": git_id(b"pointer " + sha256.encode()),
                        "lfs": {"oid": sha256, "size": len(data), "pointerSize": 134},
                    }
        entries += [{"type": "directory", "path": path, "oid": git_id(path.encode())} for path in sorted(folders)]
        self._say(200, entries)

    def _upload(self, asked: dict) -> dict:
        """Where a large file is to be sent, unless it is there already."""
        href = f"{self.hub.url}/large-files/{asked['oid']}"
        return asked if asked["oid"] in self.hub.large_files else {**asked, "actions": {"upload": {"href": href}}}

    def _file(self, repo: Repo, path: str) -> None:
        if path not in repo.files:
            self._say(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = repo.files[path]
        etag = hashlib.sha256(data).hexdigest() if is_large(path) else git_id(data)
        self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": repo.sha}, self.hub.cut.get(path))

    def _say(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def is_large(path: str) -> bool:
    """Whether the real Hub keeps a file outside git: by its name here, there by size and content, too."""
    return path.endswith(".parquet")


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
