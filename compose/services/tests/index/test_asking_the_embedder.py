"""What the index sends to an embedder with its question: the request's id and trace, and keys that change."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpuctl_serving.index.embedder import Keys, embed, no_keys
from gpuctl_serving.kit.errors import ServiceError
from gpuctl_serving.kit.logs import request_id
from gpuctl_serving.kit.trace import current_trace, read_trace


class Embedder(ThreadingHTTPServer):
    """Answers two-dimensional vectors to whoever has its key."""

    def __init__(self, key: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = key
        self.heard: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Embedder

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"]
        self.server.heard.append({name.lower(): value for name, value in self.headers.items()})
        admitted = not self.server.key or self.headers["authorization"] == f"Bearer {self.server.key}"
        body = json.dumps([[3.0, 4.0] for _ in texts] if admitted else {"message": "no"}).encode()
        self.send_response(200 if admitted else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def embedder() -> Iterator[Embedder]:
    with Embedder() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_trace_and_the_id_of_a_request_reach_the_embedder(embedder: Embedder) -> None:
    trace = read_trace([(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")])
    assert trace is not None

    async def as_part_of_a_request() -> None:
        current_trace.set(trace)
        request_id.set("find-me")
        await embed(embedder.address, ["a"], ("", 2), 5)

    asyncio.run(as_part_of_a_request())
    (heard,) = embedder.heard
    assert heard["traceparent"] == f"00-{'a' * 32}-{trace.span_id}-01"
    assert heard["x-request-id"] == "find-me"
    assert "authorization" not in heard


def test_a_key_the_embedder_does_not_know_yet_or_any_more_is_not_the_end(embedder: Embedder) -> None:
    """Two services read the same new file, one of them first."""
    embedder.key = "old"
    found = asyncio.run(embed(embedder.address, ["a"], ("", 2), 5, lambda: ("new", "old")))
    assert [round(float(x), 3) for x in found[0]] == [0.6, 0.8]
    assert [heard["authorization"] for heard in embedder.heard] == ["Bearer new", "Bearer old"]


@pytest.mark.parametrize("keys", [lambda: ("wrong", "worse"), no_keys])
def test_without_a_right_key_the_embedders_own_words_come_back(embedder: Embedder, keys: Keys) -> None:
    embedder.key = "right"
    with pytest.raises(ServiceError, match=r"answered 401: no") as refused:
        asyncio.run(embed(embedder.address, ["a"], ("", 2), 5, keys))
    assert refused.value.status == 503
