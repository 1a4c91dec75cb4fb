"""What a deploy asks of an index: where it stands, its generations, and the writer's handover."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.index import facts
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.generations import Generations
from gpuctl_serving.index.requests import Ensure, Hold, Prune, Take
from gpuctl_serving.kit.app import json_response
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, invalid

#: No hold may keep writes waiting longer than this, whoever asks.
MAX_HOLD_MS = 10_000


class PrivateIndex:
    """The handlers under `/private/`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._generations = Generations(core)

    async def index(self, _: Request) -> Response:
        """`GET /private/index`."""
        return json_response(await self._core.read(lambda: facts.private_index(self._core)))

    async def ensure(self, request: Request) -> Response:
        """`POST /private/generations/ensure`."""
        return json_response(await self._generations.ensure(await read_json(request, Ensure)))

    async def prune(self, request: Request) -> Response:
        """`POST /private/generations/prune`."""
        body = await read_json(request, Prune)
        return json_response(await self._generations.prune(body.keep))

    async def take(self, request: Request) -> Response:
        """`POST /private/writer/take`."""
        body = await read_json(request, Take)
        _budget(body.deadlineMs, "deadlineMs")
        return json_response(await asyncio.wrap_future(self._core.worker.take(body.deadlineMs)))

    async def hold(self, request: Request) -> Response:
        """`POST /private/writer/hold`."""
        body = await read_json(request, Hold)
        _budget(body.holdMs, "holdMs")
        if body.successor and not body.successor.startswith(("unix:/", "http://")):
            raise invalid("successor must be unix:/path or http://host:port.", "successor")
        if self._already_at(body.successor):
            return json_response({"sequence": self._core.live.applied, "heldMs": 0})
        until = time.monotonic() + body.holdMs / 1000
        worker = self._core.worker
        token = await asyncio.wrap_future(worker.hold(body.holdMs, body.successor))
        try:
            if body.ensure is not None:
                await self._complete(body.ensure, until)
            return json_response(await asyncio.wrap_future(worker.release(token)))
        except BaseException:
            worker.resume(token)
            raise

    def _already_at(self, successor: str) -> bool:
        """Whether an earlier hold, or a crash, made the successor the writer before this request came."""
        worker = self._core.worker
        return bool(successor) and worker.role == "follower" and worker.elsewhere().address == successor

    async def _complete(self, want: Ensure, until: float) -> None:
        while True:
            left = until - time.monotonic()
            state = await self._generations.ensure(want, max(0.0, left), internal=True)
            if not state["missing"]:
                return
            if time.monotonic() >= until:
                raise ServiceError(
                    409,
                    "HoldExpired",
                    f"{state['missing']} items lack a vector of {want.key!r} and the hold's time is up; "
                    "this instance writes on. Call /private/generations/ensure until nothing is missing, "
                    "then hold again.",
                )


def _budget(ms: int, name: str) -> None:
    if not 1 <= ms <= MAX_HOLD_MS:
        raise invalid(f"{name} is {ms}; it must be from 1 to {MAX_HOLD_MS}.", name)
