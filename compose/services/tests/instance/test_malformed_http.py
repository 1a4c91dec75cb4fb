"""What is not HTTP, or pretends to be: one answer that says so, or none, and never somebody else's."""

import asyncio
import json
import re
import socket
from collections.abc import Sequence

import pytest

from gpuctl_serving.kit.traffic import HttpServer
from tests.support.echo import Echo

ECHO = b'POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n{"text":"a"}'
NO_HTTP = "This is not HTTP/1.1"


def exchange(*parts: bytes, gap: float = 0.0) -> bytes:
    """Everything the server sends back until it closes, or until it has been silent for half a second."""

    async def run() -> bytes:
        service = Echo()
        service.load()
        server = HttpServer(service.app, socket.create_server(("127.0.0.1", 0)), private=False)
        await server.accept()
        reader, writer = await asyncio.open_connection(*server.listener.getsockname())
        found = b""
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(gap)
            while data := await asyncio.wait_for(reader.read(65536), 0.5):
                found += data
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
            await server.close()
        return found

    return asyncio.run(run())


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers)]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /h\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET /health HTTP/1.1\r\nna me: a\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: twelve\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\ncontent-length: 13\r\n\r\n" + b" " * 13,
        # Two ideas of where the body ends: the way requests are smuggled past a proxy.
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_400_in_json_and_the_end(sent: bytes) -> None:
    answer = exchange(sent)
    assert statuses(answer) == [400]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert NO_HTTP in json.loads(body)["error"]


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"fffffffffffffffff\r\n",
        b"2\r\n{}xx\r\n0\r\n\r\n",
    ],
)
def test_a_body_in_broken_chunks_never_reaches_the_handler(chunks: bytes) -> None:
    answer = exchange(
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", chunks, gap=0.02
    )
    assert 200 not in statuses(answer)


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x01\x02", b"GARBAGE\r\n\r\n", b'{"text":"more than was announced"}', b"HTTP/1.1 200 OK\r\n\r\n"],
)
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_garbage_after_a_good_request_leaves_its_answer_whole(garbage: bytes, gap: float) -> None:
    answer = exchange(ECHO, garbage, gap=gap)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.startswith(b'{"text":"a"}')
    assert statuses(answer)[1:] in ([], [400])


def test_garbage_glued_to_a_good_request_gets_one_answer_then_the_end() -> None:
    answer = exchange(ECHO + b"\x00\x01\x02\r\n\r\n" + ECHO)
    assert statuses(answer) in ([200], [200, 400])


def test_pipelined_requests_are_answered_in_order() -> None:
    bodies: Sequence[bytes] = [b'{"text":"%d"}' % n for n in range(5)]
    sent = b"".join(
        b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(b), b) for b in bodies
    )
    answer = exchange(sent)
    assert statuses(answer) == [200] * 5
    assert [answer.index(body) for body in bodies] == sorted(answer.index(body) for body in bodies)


def test_headers_without_end_are_refused() -> None:
    answer = exchange(b"GET /health HTTP/1.1\r\n", *[b"x-%d: %b\r\n" % (n, b"a" * 8000) for n in range(9)])
    assert statuses(answer) == [431]


@pytest.mark.parametrize(
    "header", [b"x-request-id: a\tb", b"x-request-id: " + b"a" * 65, b"traceparent: \xff\xfe"]
)
def test_ids_that_are_no_ids_are_replaced_and_never_sent_back(header: bytes) -> None:
    answer = exchange(ECHO.replace(b"host: x", b"host: x\r\n" + header))
    assert statuses(answer) == [200]
    assert header.partition(b": ")[2] not in answer
