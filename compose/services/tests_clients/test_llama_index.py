"""LlamaIndex's TEI classes. They never look at the status: an answer must have the shape they index into."""

import asyncio

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as TeiRerank

from tests_clients.conftest import KEY
from tests_clients.services import MINILM, Service
from tests_clients.test_cohere import DOCUMENTS, QUERY, order

TEXTS = ["a rollback restores everything", "the index loses nothing"]


def nodes(texts: list[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]


def test_embeddings_are_those_of_the_plain_route(embedder: Service) -> None:
    wanted = embedder.post("/embed", {"inputs": TEXTS}).json()
    client = TextEmbeddingsInference(model_name=MINILM, base_url=embedder.url)
    for found, vector in zip(client.get_text_embedding_batch(TEXTS), wanted, strict=True):
        assert found == pytest.approx(vector, abs=1e-6)
    assert client.get_query_embedding(TEXTS[0]) == pytest.approx(wanted[0], abs=1e-6)
    assert asyncio.run(client.aget_text_embedding(TEXTS[1])) == pytest.approx(wanted[1], abs=1e-6)


def test_long_texts_are_cut_because_it_asks_for_that(embedder: Service) -> None:
    client = TextEmbeddingsInference(model_name=MINILM, base_url=embedder.url)
    assert len(client.get_text_embedding("very long " * 2000)) == 384


def test_reranking_gives_every_node_its_score(reranker: Service, cross_encoder: Service) -> None:
    for service in (reranker, cross_encoder):
        client = TeiRerank(base_url=service.url, top_n=3)
        found = client.postprocess_nodes(nodes(DOCUMENTS), QueryBundle(QUERY))
        assert [n.node.get_content() for n in found] == [DOCUMENTS[index] for index, _ in order(service)]
        assert [n.score for n in found] == pytest.approx([score for _, score in order(service)], abs=1e-6)


def test_reranking_many_long_nodes_never_asks_for_truncation_and_gets_all_of_them(
    cross_encoder: Service,
) -> None:
    many = nodes([f"{n} " + "word " * (n * 20) for n in range(60)])
    found = TeiRerank(base_url=cross_encoder.url, top_n=60).postprocess_nodes(many, QueryBundle(QUERY))
    assert len(found) == 60
    assert all(node.score is not None for node in found)


def test_keys(guarded_embedder: Service, guarded_reranker: Service) -> None:
    """The embeddings class writes `Bearer` itself, the reranker sends what it was given."""
    right = TextEmbeddingsInference(model_name="any", base_url=guarded_embedder.url, auth_token=KEY)
    assert right.get_query_embedding("a")
    ranking = TeiRerank(base_url=guarded_reranker.url, auth_token=f"Bearer {KEY}")
    assert ranking.postprocess_nodes(nodes(DOCUMENTS), QueryBundle(QUERY))


def test_a_refusal_is_what_the_class_makes_of_a_body_it_did_not_expect(
    guarded_embedder: Service, guarded_reranker: Service
) -> None:
    """It indexes into the error; at least nothing of an error can be taken for vectors or scores."""
    wrong = TextEmbeddingsInference(model_name="any", base_url=guarded_embedder.url, auth_token="wrong")
    with pytest.raises(KeyError):
        wrong.get_query_embedding("a")
    for count in range(1, 8):
        ranking = TeiRerank(base_url=guarded_reranker.url, auth_token="Bearer wrong")
        with pytest.raises((AssertionError, TypeError)):
            ranking.postprocess_nodes(nodes(["text"] * count), QueryBundle(QUERY))
