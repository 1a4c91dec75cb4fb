"""Haystack's TEI ranker and embedder."""

import time

import pytest
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPITextEmbedder
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.huggingface_api.ranker import TruncationDirection

from tests_clients.conftest import KEY
from tests_clients.services import Service
from tests_clients.test_cohere import DOCUMENTS, QUERY, order


def ranker(service: Service, key: str | None = None, **more: object) -> HuggingFaceTEIRanker:
    token = Secret.from_token(key) if key else None
    return HuggingFaceTEIRanker(url=service.url, token=token, **{"max_retries": 1, **more})


def documents() -> list[Document]:
    return [Document(content=text) for text in DOCUMENTS]


@pytest.mark.parametrize("direction", [None, TruncationDirection.LEFT, TruncationDirection.RIGHT])
def test_the_ranker_orders_as_plain_http_does(
    reranker: Service, cross_encoder: Service, direction: TruncationDirection | None
) -> None:
    for service in (reranker, cross_encoder):
        found = ranker(service, top_k=2).run(QUERY, documents(), truncation_direction=direction)["documents"]
        assert [d.content for d in found] == [DOCUMENTS[index] for index, _ in order(service)][:2]
        assert [d.score for d in found] == pytest.approx([score for _, score in order(service)][:2], abs=1e-6)


def test_raw_scores_are_logits_or_cosines(cross_encoder: Service) -> None:
    raw = ranker(cross_encoder, raw_scores=True).run(QUERY, documents())["documents"]
    direct = cross_encoder.post("/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True}).json()
    assert [d.score for d in raw] == pytest.approx([entry["score"] for entry in direct], abs=1e-6)


def test_what_is_wrong_is_a_runtime_error_with_our_sentence(reranker: Service) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)API call failed.*`query` is empty"):
        ranker(reranker).run(" ", documents())


def test_the_right_key_and_a_wrong_one(guarded_reranker: Service) -> None:
    assert len(ranker(guarded_reranker, KEY).run(QUERY, documents())["documents"]) == 3
    with pytest.raises(RuntimeError, match="A valid key is needed"):
        ranker(guarded_reranker, "wrong").run(QUERY, documents())


def test_it_tries_again_after_a_429_and_not_after_a_422(limited_reranker: Service, reranker: Service) -> None:
    patient = ranker(limited_reranker, max_retries=4)
    for _ in range(2):
        assert len(patient.run(QUERY, documents())["documents"]) == 3
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="422"):
        ranker(reranker, max_retries=4).run(QUERY, [Document(content=None)])
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("kind", ["text_embeddings_inference", "inference_endpoints"])
def test_the_embedder_posts_to_the_bare_address(embedder: Service, kind: str) -> None:
    client = HuggingFaceAPITextEmbedder(
        api_type=kind, api_params={"url": embedder.url}, token=None, normalize=True
    )
    wanted = embedder.post("/embed", {"inputs": "some text"}).json()[0]
    assert client.run("some text")["embedding"] == pytest.approx(wanted, abs=1e-6)


def test_the_embedder_with_a_key(guarded_embedder: Service) -> None:
    address = {"url": guarded_embedder.url}
    right = HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference", api_params=address, token=Secret.from_token(KEY)
    )
    assert right.run("a")["embedding"]
    wrong = HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference", api_params=address, token=Secret.from_token("wrong")
    )
    with pytest.raises(Exception, match="401"):
        wrong.run("a")
