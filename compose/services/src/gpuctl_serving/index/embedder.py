"""Asks an embedder for the vectors of texts (`POST /embed`, TEI's shape)."""

import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
import orjson

from gpuctl_serving.index.http_client import Answer, ExchangeFailed, Unreachable, exchange
from gpuctl_serving.index.vectors import Vectors, unit
from gpuctl_serving.kit.errors import ServiceError, invalid, unavailable
from gpuctl_serving.kit.header_text import from_header
from gpuctl_serving.kit.trace import outgoing_headers

#: Texts asked for at once.
BATCH = 32
#: What an embedder of ours says about its model; others are silent, and then only the dimension is checked.
GENERATION_HEADER = "x-gpuctl-generation"


#: The keys an embedder may know, asked anew each time: they are exchanged while services run.
Keys = Callable[[], Sequence[str]]


def no_keys() -> Sequence[str]:
    """For embedders that ask for none."""
    return ()


class OtherSpace(ServiceError):
    """503: the embedder that answered serves another generation; during a switch the next may be right."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "Unhealthy", message, retry_after=1, reason="unavailable")


#: Which words the model is to put before a text: those for what is searched, or for what is found.
Side = Literal["query", "passage"]

#: Foreign embedders whose model has no such prompts, and until when that is believed.
_promptless: dict[str, float] = {}
_PROMPTLESS_SECONDS = 60.0

_rows = msgspec.json.Decoder(list[list[float]])


async def embed(
    address: str,
    texts: Sequence[str],
    space: tuple[str, int],
    timeout_s: float,
    keys: Keys = no_keys,
    *,
    side: Side = "passage",
) -> list[Vectors]:
    """Unit vectors of the texts, in order, in the space (generation key, dimension; "" and 0: any).

    `side` is the prompt asked for: models such as E5 want other words before a query than before a passage.
    ServiceError says what the embedder said, OtherSpace that its vectors are of no use here.
    """
    made: list[Vectors] = []
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        try:
            answer = await _ask_with_prompt(address, part, side, timeout_s, keys())
        except (Unreachable, ExchangeFailed) as failure:
            raise unavailable(f"The embedder cannot be asked for vectors: {failure}.") from failure
        made += _vectors(address, answer, len(part), space)
    return made


async def _ask_with_prompt(
    address: str, texts: Sequence[str], side: Side, timeout_s: float, keys: Sequence[str]
) -> Answer:
    """Names the prompt, which every embedder of ours understands; without it where that is refused."""
    plain = {"inputs": texts, "truncate": True}
    if _promptless.get(address, 0.0) < time.monotonic():
        answer = await _ask(address, orjson.dumps({**plain, "prompt_name": side}), timeout_s, keys)
        if answer.status not in (400, 422) or b"prompt" not in answer.body.lower():
            return answer
        _promptless[address] = time.monotonic() + _PROMPTLESS_SECONDS
    return await _ask(address, orjson.dumps(plain), timeout_s, keys)


async def _ask(address: str, body: bytes, timeout_s: float, keys: Sequence[str]) -> Answer:
    """With each key in turn: of two services that read the same new file, one is always the first."""
    headers = {"content-type": "application/json", **outgoing_headers()}
    for key in keys:
        keyed = {**headers, "authorization": f"Bearer {key.encode().decode('latin-1')}"}
        answer = await exchange(address, "POST", "/embed", keyed, body, timeout_s)
        if answer.status != 401 or key == keys[-1]:
            return answer
    return await exchange(address, "POST", "/embed", headers, body, timeout_s)


def _vectors(address: str, answer: Answer, count: int, space: tuple[str, int]) -> list[Vectors]:
    if answer.status != 200:
        raise _refused(address, answer)
    generation, dimension = space
    said = from_header(answer.headers.get(GENERATION_HEADER, ""))
    if said and generation and not generation.startswith("dim:") and said != generation:
        raise OtherSpace(
            f"The embedder at {address} serves generation {said!r}, but this index serves {generation!r}. "
            "Wait for the deploy to finish, or point GPUCTL_EMBEDDER_URL at the matching embedder."
        )
    try:
        rows = _rows.decode(answer.body)
    except msgspec.DecodeError as wrong:
        raise unavailable(f"The embedder at {address} did not answer with vectors: {wrong}.") from wrong
    if len(rows) != count or len({len(row) for row in rows}) > 1:
        raise unavailable(f"The embedder at {address} answered {len(rows)} vectors for {count} texts.")
    if dimension and rows and len(rows[0]) != dimension:
        raise OtherSpace(
            f"The embedder at {address} answers vectors of {len(rows[0])} dimensions, but generation "
            f"{generation!r} has {dimension}. Point GPUCTL_EMBEDDER_URL at the model the index was built for."
        )
    try:
        return [unit(np.asarray(row, dtype=np.float32), "the embedder's vector") for row in rows]
    except ServiceError as wrong:
        raise unavailable(f"The embedder at {address} answered a useless vector: {wrong.message}") from wrong


def _refused(address: str, answer: Answer) -> ServiceError:
    said = answer.body[:500].decode("utf-8", "replace")
    try:
        message = orjson.loads(answer.body).get("message", said)
    except (orjson.JSONDecodeError, AttributeError):
        message = said
    if answer.status in (400, 413, 422):
        return invalid(f"The embedder refused the text: {message}", "text")
    retry = answer.headers.get("retry-after", "1")
    return unavailable(
        f"The embedder at {address} answered {answer.status}: {message}", int(retry) if retry.isdigit() else 1
    )
