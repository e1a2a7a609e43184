"""A Hugging Face Hub of one dataset, on loopback.

`datasets` reads a Hub id and a local folder by different code: listings, revisions, byte ranges and retries
exist only for the Hub. This server answers the few calls that streaming makes, so tests can run that code.
"""

import hashlib
import json
import re
import threading
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from socketserver import BaseServer
from typing import NamedTuple, Self
from urllib.parse import unquote

_ROUTE = re.compile(
    r"/(?P<kind>api/datasets|datasets)/(?P<dataset>[^/?]+/[^/?]+)"
    r"(/(?P<verb>revision|tree|resolve)/(?P<revision>[^/?]+)(/(?P<path>[^?]+))?)?(\?(?P<query>.*))?"
)
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


class Request(NamedTuple):
    """A request as it was seen, with the status it was answered: a plain tuple, easy to compare in a test."""

    method: str
    path: str
    range: str | None
    status: int


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes = b""


class _Entry(NamedTuple):
    file: Path
    size: int
    digest: str


def _catalogue(root: Path) -> dict[str, _Entry]:
    """List the folder once: only what is listed is ever served, so no request can reach a file outside it."""
    entries = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.resolve().is_relative_to(root):
            content = file.read_bytes()
            entry = _Entry(file, len(content), hashlib.sha256(content).hexdigest()[:40])
            entries[file.relative_to(root).as_posix()] = entry
    return entries


def _json(document: object) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Turn a Range header into [start, stop); None for one that this file cannot satisfy."""
    match = _RANGE.fullmatch(wanted)
    if match is None:
        return None
    first, last, suffix = match.groups()
    start = int(first) if first else max(0, size - int(suffix))
    stop = min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None


class _Handler(BaseHTTPRequestHandler):
    """Carry answers over HTTP/1.0: with no kept-alive connections, a stopped server is really gone."""

    def __init__(self, hub: "HubServer", sock: socket, address: tuple[str, int], server: BaseServer) -> None:
        self.hub = hub  # before the base class, whose __init__ already handles the request
        super().__init__(sock, address, server)

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # a killed client, or a `fault` that hangs up unanswered
            answer = self.hub.handle(self.command, self.path, self.headers.get("Range"))
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: self.hub.cut(len(answer.body))])

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep test output clean; `HubServer.requests` is the log."""


class HubServer:
    """Serve `folder` as the Hub dataset `dataset` for as long as the `with` block lasts."""

    def __init__(self, folder: Path, dataset: str = "tahoebio/Tahoe-100M") -> None:
        """Read the folder as it is now; a folder that changed is a new commit, and needs a new server."""
        self.dataset = dataset
        self.requests: list[Request] = []
        self._files = _catalogue(folder.resolve(strict=True))
        names = json.dumps([(name, entry.size, entry.digest) for name, entry in self._files.items()])
        self.commit = hashlib.sha256(names.encode()).hexdigest()[:40]
        self._revisions = {"main", self.commit}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Free the port: from here on connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, home: Path) -> dict[str, str]:
        """Give what to lay over `os.environ` so that a subprocess, its caches in `home`, talks only to us.

        `datasets` also calls an S3 bucket and `datasets-server.<endpoint>`. Being the proxy for every other
        host, this server refuses and records such calls, where looking up the name could hang.
        """
        proxy = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), self.endpoint)
        proxy["no_proxy"] = "127.0.0.1,localhost"
        caches = {"HF_HOME": home, "HF_HUB_CACHE": home / "hub", "HF_DATASETS_CACHE": home / "datasets"}
        on = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN")
        off = ("HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
        switches = dict.fromkeys(on, "1") | dict.fromkeys(off, "0") | {"HF_ENDPOINT": self.endpoint}
        proxies = proxy | {name.upper(): value for name, value in proxy.items()}
        return switches | proxies | {name: str(folder) for name, folder in caches.items()}

    def fault(self, method: str, path: str) -> int | None:
        """Override to fail: give a status to answer, or sleep first, or raise ConnectionError to hang up."""
        return None

    def refusal(self, status: int) -> dict[str, str]:
        """Override to say more of a fault: give the headers that go with its status."""
        return {}

    def cut(self, size: int) -> int:
        """Override to break off: give how many of a body's bytes to send."""
        return size

    def move(self) -> None:
        """Be at a new commit with the same files; the commits before it can still be asked for by name."""
        self.commit = hashlib.sha256(self.commit.encode()).hexdigest()[:40]
        self._revisions.add(self.commit)

    def handle(self, method: str, target: str, wanted: str | None) -> _Answer:
        """Answer one request, recorded before it is sent: whoever has the answer finds it in `requests`."""
        fault = self.fault(method, target)
        answer = self._route(method, target, wanted) if fault is None else _Answer(fault, self.refusal(fault))
        self.requests.append(Request(method, target, wanted, answer.status))
        return answer

    def _missing(self, what: str) -> _Answer:
        """Answer 404 as the Hub does: the client picks its exception class by the error code alone."""
        return _Answer(404, {"X-Error-Code": f"{what}NotFound", "X-Repo-Commit": self.commit})

    def _route(self, method: str, target: str, wanted: str | None) -> _Answer:
        match = _ROUTE.fullmatch(target)  # a proxied URL of another host begins with no slash
        if match is None or match["dataset"] != self.dataset:
            return self._missing("Repo")
        if unquote(match["revision"] or "main") not in self._revisions:
            return self._missing("Revision")
        path = unquote(match["path"] or "")
        if match["verb"] == "resolve":
            return self._resolve(method, path, wanted)
        if match["verb"] == "tree":
            return self._tree(path, deep="recursive=true" in (match["query"] or ""))
        siblings = [{"rfilename": name} for name in self._files]
        return _json({"id": self.dataset, "sha": self.commit, "siblings": siblings})

    def _tree(self, folder: str, *, deep: bool) -> _Answer:
        prefix = f"{folder}/" if folder else ""
        rows: dict[str, dict[str, object]] = {}
        for name in (name for name in self._files if name.startswith(prefix)):
            child = name if deep else prefix + name.removeprefix(prefix).partition("/")[0]
            size, digest = self._files[name][1:] if child == name else (0, self.commit)
            kind = "file" if child == name else "directory"
            rows[child] = {"type": kind, "path": child, "size": size, "oid": digest}
        return _json(list(rows.values())) if rows else self._missing("Entry")

    def _resolve(self, method: str, path: str, wanted: str | None) -> _Answer:
        entry = self._files.get(path)
        if entry is None:
            return self._missing("Entry")
        headers = {"ETag": f'"{entry.digest}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if method == "HEAD":
            return _Answer(200, headers | {"Content-Length": str(entry.size)})
        span = _span(wanted, entry.size) if wanted else (0, entry.size)
        if span is None:
            return _Answer(416, headers | {"Content-Range": f"bytes */{entry.size}"})
        with entry.file.open("rb") as stream:
            stream.seek(span[0])
            body = stream.read(span[1] - span[0])
        if not wanted:
            return _Answer(200, headers, body)
        return _Answer(206, headers | {"Content-Range": f"bytes {span[0]}-{span[1] - 1}/{entry.size}"}, body)
