"""A go-between that writes down what a client sends and passes it on to the service."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

#: Headers that say something about the dialect; the rest (versions, platforms, lengths) changes by the day.
_KEPT = ("authorization", "content-type")


class Recorder(ThreadingHTTPServer):
    """Forwards every request and keeps it."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.heard: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where clients are to be pointed."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = httpx.request(
            self.command,
            f"{self.server.target}{self.path}",
            content=body,
            headers={name: headers[name] for name in _KEPT if name in headers},
        )
        self.server.heard.append(
            {
                "method": self.command,
                "path": self.path,
                "headers": {name: headers[name] for name in _KEPT if name in headers},
                "body": json.loads(body) if body else None,
                "status": answer.status_code,
            }
        )
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def recording(target: str) -> Iterator[Recorder]:
    """A recorder in front of a service."""
    with Recorder(target) as recorder:
        thread = threading.Thread(target=recorder.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            recorder.shutdown()
            thread.join()
