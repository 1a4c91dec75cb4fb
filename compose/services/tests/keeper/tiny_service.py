"""A service without a model, for tests: says who answers, after as long as it is asked to."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from gpuctl_serving.kit.serve import main
from gpuctl_serving.kit.service import InstanceFacts, State, Traffic
from gpuctl_serving.kit.settings import Settings


class TinyService:
    """Loads, hangs or fails as `TINY_LOAD` says; remembers every change of its traffic."""

    name = "tiny"

    def __init__(self, env: Mapping[str, str]) -> None:
        self.settings = Settings.load(env)[0]
        self.instance = InstanceFacts()
        self.state: State = "loading"
        self.reason: str | None = None
        self.inflight = 0
        self.heard: list[Traffic] = []
        self._load = env.get("TINY_LOAD", "")
        self.app: ASGIApp = Starlette(
            routes=[
                Route("/", self._who, methods=["GET", "POST"]),
                Route("/stream", self._stream),
                Route("/private/heard", self._told),
            ]
        )

    def load(self) -> None:
        """Does what `TINY_LOAD` says."""
        if self._load == "hang":
            time.sleep(3600)
        if self._load == "fail":
            raise RuntimeError("the weights are missing")
        if self._load == "exit":
            os._exit(3)
        self.state = "ready"

    async def on_traffic(self, traffic: Traffic) -> None:
        """Hook of the runner."""
        self.heard.append(traffic)

    async def close(self) -> None:
        """Nothing to give back."""

    async def _who(self, request: Request) -> JSONResponse:
        await request.body()
        await asyncio.sleep(float(request.query_params.get("ms", "0")) / 1000)
        private = bool(request.scope.get("gpuctl.private"))
        return JSONResponse({"pid": os.getpid(), "id": self.instance.id, "private": private})

    async def _told(self, _: Request) -> JSONResponse:
        return JSONResponse({"heard": self.heard, "environment": dict(os.environ)})

    async def _stream(self, _: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"piece "
                await asyncio.sleep(0.1)

        return StreamingResponse(pieces())


def create_service(env: Mapping[str, str]) -> TinyService:
    """As the real services do."""
    return TinyService(env)


if __name__ == "__main__":
    main(create_service)
