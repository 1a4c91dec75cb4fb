"""What real clients send, recorded by tests_clients, replayed without them: status, shape and values."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.reranker.service import create_service as create_reranker
from tests.support.running import Running, run_service

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())


def requests(kind: str) -> list[Any]:
    """Every recorded request of a service, named by its client."""
    return [
        pytest.param(one, id=f"{client} {one['path']}")
        for client, heard in sorted(RECORDED[kind].items())
        for one in heard
    ]


@pytest.fixture(scope="module")
def embedder(tiny: dict[str, Path]) -> Iterator[Running]:
    with run_service(create_embedder({"GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"])})) as running:
        yield running


@pytest.fixture(scope="module")
def reranker(tiny: dict[str, Path]) -> Iterator[Running]:
    with run_service(create_reranker({"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"])})) as running:
        yield running


def replay(running: Running, sent: dict[str, Any]) -> httpx.Response:
    answer = running.public.request(sent["method"], sent["path"], headers=sent["headers"], json=sent["body"])
    assert answer.status_code == sent["status"], answer.text
    return answer


@pytest.mark.parametrize("sent", requests("embedder"))
def test_an_embedding_client_gets_its_vectors(embedder: Running, sent: dict[str, Any]) -> None:
    answer = replay(embedder, sent)
    if answer.status_code != 200 or sent["method"] == "GET":
        return
    body = sent["body"]
    if sent["path"] == "/similarity":
        assert len(answer.json()) == len(body["inputs"]["sentences"])
        return
    texts = body.get("input", body.get("inputs"))
    plain = {"inputs": texts, "normalize": body.get("normalize"), "dimensions": body.get("dimensions")}
    wanted = np.array(embedder.public.post("/embed", json=plain).json())
    assert np.allclose(vectors(answer.json()), wanted, atol=1e-5)


def vectors(answer: Any) -> np.ndarray:
    """Of either dialect."""
    if isinstance(answer, list):
        return np.array(answer)
    raw = [entry["embedding"] for entry in answer["data"]]
    return np.array([np.frombuffer(base64.b64decode(r), "<f4") if isinstance(r, str) else r for r in raw])


@pytest.mark.parametrize("sent", requests("reranker"))
def test_a_rerank_client_gets_its_order(reranker: Running, sent: dict[str, Any]) -> None:
    answer, body = replay(reranker, sent).json(), sent["body"]
    given = body.get("texts") or body["documents"]
    texts = [one if isinstance(one, str) else one["text"] for one in given]
    plain = {"query": body["query"], "texts": texts, "truncation_direction": body.get("truncation_direction")}
    wanted = [entry["index"] for entry in reranker.public.post("/rerank", json=plain).json()]
    if "texts" in body:
        assert [entry["index"] for entry in answer] == wanted
    else:
        assert [entry["index"] for entry in answer["results"]] == wanted[: body.get("top_n") or len(wanted)]
        assert answer["usage"]["total_tokens"] > 0
