"""An embedder whose vectors are a function of the text alone; it keeps what it was asked."""

import hashlib
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np


class StubEmbedder:
    """`POST /embed` over a unix socket, between `with` and its end."""

    def __init__(self, socket: Path, *, model: str = "one", dimension: int = 8) -> None:
        self.address = f"unix:{socket}"
        self.model, self.dimension = model, dimension
        self.asked: list[str] = []
        #: Sent as `x-gpuctl-generation` when set.
        self.generation = ""
        #: Status of every answer when set.
        self.status = 200
        #: Texts with this word are refused as a real embedder refuses what it cannot tokenise.
        self.refuses = "poison"
        self._server = _Server(str(socket), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "StubEmbedder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def vector(self, text: str) -> list[float]:
        """What it answers for a text."""
        seed = int.from_bytes(hashlib.sha256(f"{self.model}|{text}".encode()).digest()[:8], "big")
        return [
            float(x) for x in np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)
        ]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    stub: StubEmbedder


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answers `/embed`."""
        assert isinstance(self.server, _Server)
        stub = self.server.stub
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/embed" and body["truncate"] is True
        texts: list[str] = body["inputs"]
        if stub.status != 200:
            return self._send(stub.status, {"message": "the stub says no"})
        if any(stub.refuses in text for text in texts):
            return self._send(422, {"message": "this text cannot be embedded"})
        stub.asked += texts
        return self._send(200, [stub.vector(text) for text in texts])

    def _send(self, status: int, body: Any) -> None:
        assert isinstance(self.server, _Server)
        data = json.dumps(body).encode()
        self.send_response(status)
        if self.server.stub.generation:
            self.send_header("x-gpuctl-generation", self.server.stub.generation)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        """A unix peer has no address."""
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
