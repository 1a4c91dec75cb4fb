"""Calls to the running index and embedder, patient with one that is full or on its way up."""

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from gpuctl_serving.index.http_client import Answer, ExchangeFailed, Unreachable, exchange
from gpuctl_serving.index.ids import ItemId
from gpuctl_serving.migration.faiss_source import Matrix
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.spec import Peer

BASE = "/api/v1/vector-store"
_TIMEOUT = 120.0
#: Between two looks at a job, seconds.
_LOOK = 0.2


def call(
    peer: Peer, service: str, method: str, path: str, body: Any = None, expected: Sequence[int] = (200,)
) -> Any:
    """The parsed answer of a status that is expected. Waits out 429 and 503; else a MigrationProblem."""
    raw = b"" if body is None else orjson.dumps(body)
    return asyncio.run(_call(peer, service, method, path, raw, expected))


async def _call(
    peer: Peer, service: str, method: str, path: str, body: bytes, expected: Sequence[int]
) -> Any:
    until = asyncio.get_running_loop().time() + peer.patience
    pause = 0.1
    while True:
        try:
            answer = await exchange(peer.address, method, path, _headers(peer), body, _TIMEOUT)
            if answer.status in expected:
                return orjson.loads(answer.body)
            if answer.status not in (429, 503):
                raise _refused(service, path, answer)
            said = _words(answer)
        except (Unreachable, ExchangeFailed) as failure:
            said = str(failure)
        if asyncio.get_running_loop().time() + pause > until:
            raise MigrationProblem(f"the {service} does not answer", said, "gpuctl status, then run it again")
        await asyncio.sleep(pause)
        pause = min(5.0, pause * 2)


def _headers(peer: Peer) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    return headers | {"authorization": f"Bearer {peer.key}"} if peer.key else headers


def _refused(service: str, path: str, answer: Answer) -> MigrationProblem:
    said = _words(answer)
    return MigrationProblem(
        f"the {service} refused {path} with {answer.status}", said.rstrip("."), f"gpuctl logs {service}"
    )


def _words(answer: Answer) -> str:
    try:
        return str(orjson.loads(answer.body)["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer.body[:200].decode("utf-8", "replace") or f"status {answer.status}"


def base64_of(vector: Matrix) -> str:
    """A vector as the index takes it: little-endian float32 in base64."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def embed(peer: Peer, texts: Sequence[str]) -> Matrix:
    """Vectors of texts, as the environment's embedder gives them now."""
    return np.asarray(
        call(peer, "embedder", "POST", "/embed", {"inputs": list(texts), "truncate": True}), np.float32
    )


def job(peer: Peer, kind: str) -> dict[str, Any]:
    """The result of a job of the index, however long it takes. MigrationProblem when it failed."""
    said: dict[str, Any] = {}
    while said.get("state") not in ("done", "failed"):
        if "job" in said:
            time.sleep(_LOOK)
            said = call(peer, "index", "GET", f"{BASE}/jobs/{said['job']}", expected=(200, 404))
        else:
            # A restarted index, or the one a deploy put in its place, knows no job of before.
            said = call(peer, "index", "POST", f"{BASE}/{kind}", {}, expected=(200, 202))
    if said["state"] == "failed":
        raise MigrationProblem(
            f"the index could not do its {kind}", str(said["error"]).rstrip("."), "gpuctl index stats"
        )
    result: dict[str, Any] = said["result"]
    return result


def stats(peer: Peer) -> dict[str, Any]:
    """What the index says of itself."""
    found: dict[str, Any] = call(peer, "index", "GET", f"{BASE}/stats")
    return found


def nearest(peer: Peer, namespace: str, queries: Matrix, k: int) -> list[list[ItemId]]:
    """Ids of the nearest items of each query, best first."""
    found = []
    for query in queries:
        body = {"namespace": namespace, "vectorBase64": base64_of(query), "k": k}
        hits = call(peer, "index", "POST", f"{BASE}/search", body)["results"][0]
        found.append([hit["id"] for hit in hits])
    return found


def by_text(peer: Peer, namespace: str, text: str, k: int) -> list[dict[str, Any]]:
    """What a search for a text finds, best first."""
    body = {"namespace": namespace, "text": text, "k": k}
    found: list[dict[str, Any]] = call(peer, "index", "POST", f"{BASE}/search", body)["results"][0]
    return found


def present(peer: Peer, namespace: str, ids: Sequence[ItemId]) -> bool:
    """Whether any of these items is there."""
    body = {"namespace": namespace, "ids": list(ids), "include": []}
    return bool(call(peer, "index", "POST", f"{BASE}/items/get", body)["items"])
