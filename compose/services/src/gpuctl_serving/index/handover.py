"""Passing a write on to the instance that is the writer now."""

import asyncio
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.index.http_client import ExchangeFailed, Unreachable, exchange
from gpuctl_serving.index.messages import Elsewhere
from gpuctl_serving.kit.errors import unavailable
from gpuctl_serving.kit.header_text import from_header, to_header
from gpuctl_serving.kit.logs import request_id

HOPS = "x-gpuctl-forwarded"
GENERATION = "x-gpuctl-generation"
_MOST_HOPS = 3
#: How long a write looks for a writer before its client is told to try again, seconds.
PATIENCE = 5.0
_AGAIN = 0.03


@dataclass(frozen=True)
class Origin:
    """How a write came here."""

    hops: int
    #: The generation its vectors belong to when an instance of another one passed it on; else empty.
    generation: str

    @classmethod
    def of(cls, request: Request) -> "Origin":
        """Reads it from the headers; whose vectors they are is believed on the private socket only."""
        private = bool(request.scope.get("gpuctl.private"))
        hops = request.headers.get(HOPS, "0")
        generation = request.headers.get(GENERATION, "") if private else ""
        return cls(
            min(int(hops), _MOST_HOPS) if hops.isdecimal() and len(hops) < 3 else 0,
            from_header(generation),
        )


class Lost(Exception):
    """Nobody took the write at that address; another look may find who does."""


async def forward(
    request: Request, to: Elsewhere, origin: Origin, generation: str, *, repeatable: bool
) -> Response:
    """Sends the request as it came to another instance; its answer.

    Raises Lost when nobody is there, and when somebody was lost who had a request that may be done twice.
    """
    if not to.address:
        raise Lost
    if origin.hops >= _MOST_HOPS:
        raise unavailable("The writer moves faster than this write can follow. Send it again.")
    sent = generation if not origin.generation else origin.generation
    headers = {
        "content-type": "application/json",
        "x-request-id": request_id.get(),
        HOPS: str(origin.hops + 1),
        GENERATION: to_header(sent),
    }
    if key := request.headers.get("authorization"):
        headers["authorization"] = key
    try:
        answer = await exchange(
            to.address, request.method, request.url.path, headers, await request.body(), 2 * PATIENCE
        )
    except Unreachable as nobody:
        raise Lost from nobody
    except ExchangeFailed as broken:
        if repeatable:
            raise Lost from broken
        raise unavailable(
            f"The writer was lost while it had this write ({broken}). It may be stored or not; send it again."
        ) from broken
    kept = {"x-gpuctl-writer": "forwarded"}
    kept |= {name: answer.headers[name] for name in ("retry-after",) if name in answer.headers}
    return Response(answer.body, answer.status, kept, media_type="application/json")


async def look_again(since: float) -> None:
    """Waits a moment before the next look for a writer; 503 when the patience is over."""
    if time.monotonic() - since > PATIENCE:
        raise unavailable(
            "No instance of the index is the writer at the moment; nothing was stored. "
            "Send it again, or see `gpuctl status`."
        )
    await asyncio.sleep(_AGAIN)
