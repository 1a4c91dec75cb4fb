"""The smallest service: says back what it hears, so that tests see what happens around every route."""

import asyncio
import threading
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gpuctl_serving.kit.app import Endpoint, create_base_app, json_response, public_paths, timings
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.disconnect import unless_gone
from gpuctl_serving.kit.errors import LoadFailed, unavailable
from gpuctl_serving.kit.metrics import Metrics
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Settings


class Echoed(msgspec.Struct):
    text: str


class Echo(ServiceBase):
    """Says back what it hears."""

    name = "echo"
    device = "cpu"
    model = "none"

    def __init__(self, *, fails: str = "", **settings: Any) -> None:
        super().__init__(Settings(**settings))
        self._fails = fails
        self.waiting = threading.Event()
        self.cancelled = threading.Event()
        endpoints = [
            Endpoint("POST", "/echo", self.echo),
            Endpoint("POST", "/v1/echo", self.echo),
            Endpoint("GET", "/items/{id}", self.item),
            Endpoint("GET", "/broken", self.broken),
            Endpoint("GET", "/busy", self.busy),
            Endpoint("POST", "/wait", self.wait),
            Endpoint("POST", "/costly", self.costly),
        ]
        self._app = create_base_app(self, endpoints, Metrics(public_paths(endpoints), self.settings.slo_ms))

    @property
    def app(self) -> ASGIApp:
        return self._app

    def load_parts(self) -> None:
        if self._fails:
            raise LoadFailed(self._fails)

    async def echo(self, request: Request) -> Response:
        return json_response({"text": (await read_json(request, Echoed)).text})

    async def item(self, request: Request) -> Response:
        return json_response({"id": request.path_params["id"]})

    async def broken(self, _: Request) -> Response:
        raise ZeroDivisionError("a secret detail")

    async def busy(self, _: Request) -> Response:
        raise unavailable("Busy with something else.", 7)

    async def costly(self, request: Request) -> Response:
        """Takes 2 ms and says that it cost as many tokens as the text has characters."""
        await asyncio.sleep(0.002)
        tokens = len((await read_json(request, Echoed)).text)
        timings(request).update(tokenize=1.0, queue=2.0, inference=3.0)
        return json_response({}, headers={"x-compute-tokens": str(tokens)})

    async def wait(self, request: Request) -> Response:
        await request.body()
        return await unless_gone(request, self._sleep())

    async def _sleep(self) -> Response:
        self.waiting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return json_response({})

    def info(self) -> dict[str, Any]:
        return {"service": self.name}

    async def warmup(self) -> dict[str, Any]:
        return {"shapes": []}

    async def proof(self) -> dict[str, Any]:
        return {"device": "cpu"}

    async def close(self) -> None:
        return None
