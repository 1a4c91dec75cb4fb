"""A service on a real socket, in a thread of the test."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gpuctl_serving.kit.service import ServiceBase

_PRIVATE = "x-arrived-on-the-private-socket"


@dataclass(frozen=True)
class Running:
    """A service that answers: its public address, and as its keeper sees it."""

    service: ServiceBase
    public: httpx.Client
    private: httpx.Client
    port: int


@contextmanager
def run_service(service: ServiceBase, *, load: bool = True) -> Iterator[Running]:
    """Loads and serves; a header of the test's own stands for the private socket."""
    if load and service.state == "loading":
        service.load()
    with _serve(_marked_private(service.app)) as port:
        base = f"http://127.0.0.1:{port}"
        with (
            httpx.Client(base_url=base, timeout=30) as public,
            httpx.Client(base_url=base, timeout=30, headers={_PRIVATE: "yes"}) as private,
        ):
            yield Running(service, public, private, port)
        asyncio.run(service.close())


@contextmanager
def _serve(app: ASGIApp) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        if time.monotonic() > until:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def _marked_private(app: ASGIApp) -> ASGIApp:
    async def private(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(name == _PRIVATE.encode() for name, _ in scope["headers"]):
            scope["gpuctl.private"] = True
        await app(scope, receive, send)

    return private
