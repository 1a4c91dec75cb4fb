"""Sends one response: the headers every answer carries, errors in full, and what it all took."""

import re
import secrets
import time

import orjson
from starlette.types import Message, Receive, Scope, Send

from gpuctl_serving.kit.cors import Cors
from gpuctl_serving.kit.errors import ServiceError
from gpuctl_serving.kit.service import ServiceBase

Headers = list[tuple[bytes, bytes]]

_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TOKENS = b"x-compute-tokens"
_DRAIN_BYTES = 64 * 1024 * 1024
_DRAIN_SECONDS = 5.0


def header(scope: Scope, wanted: bytes) -> str:
    """One header of a request, empty when it has none."""
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value).decode("latin-1")
    return ""


class Answer:
    """The answer to one request; remembers its status and what it cost."""

    def __init__(self, scope: Scope, send: Send, service: ServiceBase, cors: Cors) -> None:
        self._scope, self._send, self._service, self._cors = scope, send, service, cors
        self._started = scope["gpuctl.started"] = time.perf_counter()
        given = header(scope, b"x-request-id")
        self.request_id = given if _SAFE_ID.fullmatch(given) else secrets.token_hex(8)
        self.status = 0
        #: Tokens the model worked on for this answer.
        self.tokens = 0

    @property
    def seconds(self) -> float:
        """Time since the request arrived."""
        return time.perf_counter() - self._started

    @property
    def stages(self) -> dict[str, float]:
        """Stage name -> milliseconds, as far as they are known."""
        return dict(self._scope.get("gpuctl.timings", {}))

    async def send(self, message: Message) -> None:
        """Passes a message on, with the headers every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message["headers"]:
                if name == _TOKENS and value.isdigit():
                    self.tokens = int(value)
            message["headers"] = [*message["headers"], *self._common_headers()]
        await self._send(message)

    async def plain(self, status: int, headers: Headers) -> None:
        """An answer without a body."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    async def refuse(self, refused: ServiceError, receive: Receive) -> None:
        """Answers an error in full, then swallows what the client still sends, so that it can read it."""
        body = orjson.dumps(refused.body(self._scope["path"]))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *_error_headers(refused),
        ]
        drains = refused.status == 413
        await self.send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": drains})
        if drains:
            await self._drain(receive)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _common_headers(self) -> Headers:
        stages = self.stages
        stages["total"] = self.seconds * 1000
        timing = ", ".join(f"{name};dur={ms:.2f}" for name, ms in stages.items())
        headers = [(b"x-request-id", self.request_id.encode()), (b"server-timing", timing.encode())]
        # The device that computed this answer; the one in service for answers that nothing computed.
        if device := self._scope.get("gpuctl.device") or self._service.device:
            headers.append((b"x-gpuctl-device", device.encode()))
        if reason := self._service.device_reason:
            headers.append((b"x-gpuctl-device-reason", reason.encode()))
        if cors := self._cors.headers(header(self._scope, b"origin")):
            headers += cors
        return headers

    async def _drain(self, receive: Receive) -> None:
        # Closing with unread bytes resets the connection, and the client loses the answer it was sent.
        if header(self._scope, b"expect"):
            return
        left, until = _DRAIN_BYTES, time.monotonic() + _DRAIN_SECONDS
        while left > 0 and time.monotonic() < until:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def _error_headers(refused: ServiceError) -> Headers:
    headers: Headers = []
    if refused.status == 413:
        headers.append((b"connection", b"close"))
    if refused.retry_after is not None:
        headers.append((b"retry-after", str(refused.retry_after).encode()))
    if refused.allow is not None:
        headers.append((b"allow", refused.allow.encode()))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
