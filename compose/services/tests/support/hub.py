"""A local server that speaks the model hub's routes, and misbehaves on request."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

COMMIT = "a" * 40
MODEL = "someone/tiny"
#: Files that the hub would keep in large storage.
_LARGE = (".safetensors", ".onnx", ".onnx_data", ".bin")


@dataclass
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]


@dataclass
class FakeHub:
    """A hub with one repository at one commit. Change its fields to change how it behaves."""

    files: dict[str, bytes]
    commit: str = COMMIT
    #: After how many bytes the next downloads break off; one entry is used up each time.
    cuts: list[int] = field(default_factory=list)
    #: Statuses to answer downloads with, one after the other, before anything is sent.
    refusals: list[int] = field(default_factory=list)
    ignore_ranges: bool = False
    #: Answers the listing only with names, as old mirrors do; hashes are then in headers.
    names_only: bool = False
    #: Headers of downloads carry neither hash.
    no_hashes: bool = False
    #: What is sent in place of a file, at full length or not.
    replaced: dict[str, bytes] = field(default_factory=dict)
    #: Bearer token without which nothing is given.
    token: str | None = None
    gated: bool = False
    #: Where large files really lie: "" for the same host (a relative redirect), else another address.
    storage: str = ""
    #: Called before a block of a large file is sent; may wait.
    before_block: Callable[[int], None] = lambda sent: None
    requests: list[Request] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> "FakeHub":
        """A hub that serves the files of a folder."""
        names = [file for file in folder.rglob("*") if file.is_file()]
        return cls({str(file.relative_to(folder)): file.read_bytes() for file in names})

    def downloads(self, name: str) -> list[Request]:
        """Requests for where a file really lies."""
        return [request for request in self.requests if request.path == f"/storage/{name}"]

    def info(self) -> bytes:
        """The answer of `/api/models/<id>/revision/<revision>?blobs=true`."""
        return orjson.dumps({"sha": self.commit, "siblings": [self._sibling(name) for name in self.files]})

    def _sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        if self.names_only:
            return {"rfilename": name}
        entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
        if not name.endswith(_LARGE):
            entry["blobId"] = git_blob(content)
        else:
            # Of the pointer that git holds in place of the content.
            entry["blobId"] = "0" * 40
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        return entry


def git_blob(content: bytes) -> str:
    """Git's hash of a file."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


class _Backlog(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(path, {k.lower(): v for k, v in self.headers.items()}))
        if path.startswith("/storage/"):
            self._content(path.removeprefix("/storage/"))
        elif not self._admitted():
            code = "GatedRepo" if self.hub.gated else "RepoNotFound"
            self._answer(403 if self.hub.gated else 401, b"", {"X-Error-Code": code})
        elif path in (f"/api/models/{MODEL}/revision/{r}" for r in (self.hub.commit, "main")):
            self._answer(200, self.hub.info(), {"Content-Type": "application/json"})
        elif path.startswith(f"/{MODEL}/resolve/{self.hub.commit}/"):
            self._resolve(path.split(f"/resolve/{self.hub.commit}/")[1])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _admitted(self) -> bool:
        if self.hub.gated:
            return False
        return self.hub.token is None or self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _resolve(self, name: str) -> None:
        if name not in self.hub.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit}
        if not name.endswith(_LARGE):
            tag = {} if self.hub.no_hashes else {"ETag": f'W/"{git_blob(content)}"'}
            self._answer(200, self.hub.replaced.get(name, content), headers | tag)
            return
        if not self.hub.no_hashes:
            headers |= {
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
        # Of the newer storage: a client that does not speak it is served all the same.
        headers |= {
            "X-Xet-Hash": "0" * 64,
            "Link": '<https://cas.example.invalid/auth>; rel="xet-auth"',
            "Location": f"{self.hub.storage}/storage/{name}",
        }
        self._answer(302, b"", headers)

    def _content(self, name: str) -> None:
        if self.hub.refusals:
            self._answer(self.hub.refusals.pop(0), b"", {"Retry-After": "0"})
            return
        content = self.hub.replaced.get(name, self.hub.files.get(name, b""))
        asked = self.headers.get("Range", "")
        start = 0 if self.hub.ignore_ranges or not asked else int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"ETag": '"storage-etag"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], headers, broken=True)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, broken: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.hub.cuts.pop(0) if broken and self.hub.cuts else len(body)
        block = 16 * 1024
        for at in range(0, cut, block):
            if broken:
                self.hub.before_block(at)
            try:
                self.wfile.write(body[at : min(at + block, cut)])
            except OSError:  # The client is gone, as some tests want it.
                break
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        return


#: Certificate and key of a hub that speaks HTTPS; signed by itself, of no use anywhere else.
CERTIFICATE = Path(__file__).parent / "tls" / "hub.pem"


@contextmanager
def serve_hub(hub: FakeHub, *, tls: bool = False) -> Iterator[str]:
    """Serves it on a free port of this machine; yields its address."""
    server = _Backlog(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
