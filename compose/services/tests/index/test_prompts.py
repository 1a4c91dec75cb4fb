"""An index asks its embedder for a query's vector as a query, and for a passage's as a passage."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpuctl_serving.index import embedder as asking
from gpuctl_serving.index.embedder import Side, embed


class Foreign(ThreadingHTTPServer):
    """An embedder that may not know prompts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.knows_prompts = True
        self.heard: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Foreign

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body.get("prompt_name")
        self.server.heard.append(prompt)
        refused = prompt is not None and not self.server.knows_prompts
        data = json.dumps({"error": "Prompt not found"} if refused else [[3.0, 4.0] for _ in body["inputs"]])
        self.send_response(422 if refused else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    with Foreign() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Foreign, side: Side) -> None:
    assert len(asyncio.run(embed(server.address, ["text"], ("", 0), 5, side=side))) == 1


def test_the_side_is_named_to_the_embedder(foreign: Foreign) -> None:
    ask(foreign, "query")
    ask(foreign, "passage")
    assert foreign.heard == ["query", "passage"]


def test_an_embedder_without_prompts_is_asked_without_and_remembered_for_a_while(
    foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign.knows_prompts = False
    ask(foreign, "query")
    ask(foreign, "passage")
    assert foreign.heard == ["query", None, None]
    monkeypatch.setitem(asking._promptless, foreign.address, 0.0)
    ask(foreign, "query")
    assert foreign.heard == ["query", None, None, "query", None]
