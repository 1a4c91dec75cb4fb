"""Request bodies: refused before they are read when too large, decoded into a declared type."""

import re
from typing import TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from gpuctl_serving.kit.errors import empty, invalid, malformed, too_large

T = TypeVar("T")


def refuse_announced(scope: Scope, limit: int) -> None:
    """Raises 413 when Content-Length says the body is over the limit, before a byte of it is read."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large(limit)


def limited(receive: Receive, limit: int) -> Receive:
    """Wraps `receive` so that a chunked body is refused with 413 as soon as it passes the limit."""
    seen = 0

    async def receive_limited() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large(limit)
        return message

    return receive_limited


_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
#: The field at the end of msgspec's messages.
_FIELD = re.compile(r"at `\$\.(\w+)")
_decoders: dict[type, msgspec.json.Decoder[object]] = {}


async def read_json(request: Request, shape: type[T]) -> T:
    """Decodes the body as `shape`. 400 when empty or not JSON, 422 when JSON of another shape."""
    data = await request.body()
    if not data.strip():
        raise empty("The body is empty. Send a JSON object.")
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.json.Decoder(shape)
    try:
        return decoder.decode(data)  # type: ignore[return-value]
    except RecursionError as wrong:
        raise malformed("The body is nested too deeply.") from wrong
    except msgspec.ValidationError as wrong:
        field = _FIELD.search(str(wrong))
        raise invalid(
            f"The request does not have the right shape: {wrong}.", field.group(1) if field else None
        ) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise malformed(f"The body is not valid JSON: {_why(data, wrong)}.") from wrong


#: Levels an answer may put around a value that it repeats.
_AROUND = 8


def written(value: object, name: str) -> bytes:
    """A value of the request as the JSON that an answer will repeat. 422 when it cannot be written again.

    What JSON can say and be read here is more than can be written: integers of any size, any nesting.
    """
    nested = value
    for _ in range(_AROUND):
        nested = [nested]
    try:
        return orjson.dumps(nested)[_AROUND:-_AROUND]
    except orjson.JSONEncodeError as wrong:
        raise invalid(
            f"{name} cannot be kept as it is: {wrong}. Integers may have 64 bits, and objects 240 levels.",
            name,
        ) from wrong


def _why(data: bytes, wrong: Exception) -> str:
    """The decoder calls a lone surrogate a truncated input; a person should hear what it is."""
    if isinstance(wrong, UnicodeDecodeError):
        return f"byte {wrong.start} is not UTF-8"
    if lone := _LONE_SURROGATE.search(data):
        return f"{lone.group().decode()} at byte {lone.start()} is half of a character (a lone surrogate)"
    return str(wrong)
