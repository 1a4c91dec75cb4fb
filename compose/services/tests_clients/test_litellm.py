"""`litellm` in front of both services, as a proxy would use it."""

import base64
import struct

import litellm
import pytest

from tests_clients.conftest import KEY
from tests_clients.services import MINILM, Service
from tests_clients.test_cohere import DOCUMENTS, QUERY, order

litellm.telemetry = False
litellm.suppress_debug_info = True


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_as_an_openai_compatible_server(embedder: Service, encoding: str) -> None:
    texts = ["a rollback restores everything", "the index loses nothing"]
    wanted = embedder.post("/embed", {"inputs": texts}).json()
    found = litellm.embedding(
        model=f"openai/{MINILM}",
        input=texts,
        api_base=f"{embedder.url}/v1",
        api_key="unused",
        encoding_format=encoding,
    )
    for entry, vector in zip(found.data, wanted, strict=True):
        given = entry["embedding"]
        if encoding == "base64":
            # It leaves the decoding to whoever asked for it.
            raw = base64.b64decode(given, validate=True)
            given = struct.unpack(f"<{len(raw) // 4}f", raw)
        assert given == pytest.approx(vector, abs=1e-6)
    assert found.usage.total_tokens == found.usage.prompt_tokens > 0
    assert found.model.endswith(MINILM)


def test_embeddings_as_an_infinity_server(embedder: Service) -> None:
    found = litellm.embedding(
        model=f"infinity/{MINILM}", input=["a"], api_base=embedder.url, api_key="unused"
    )
    assert found.data[0]["embedding"] == pytest.approx(
        embedder.post("/embed", {"inputs": ["a"]}).json()[0], abs=1e-6
    )


@pytest.mark.parametrize("provider", ["cohere", "infinity", "jina_ai", "hosted_vllm"])
def test_every_rerank_provider_that_takes_an_address(reranker: Service, provider: str) -> None:
    base = f"{reranker.url}/v1/rerank" if provider == "jina_ai" else reranker.url
    # Infinity answers documents as bare texts where everybody else has objects, on the same route.
    back = provider != "infinity"
    found = litellm.rerank(
        model=f"{provider}/{MINILM}",
        query=QUERY,
        documents=DOCUMENTS,
        api_base=base,
        api_key="unused",
        top_n=2,
        return_documents=back,
    )
    if back:
        assert [r["document"]["text"] for r in found.results] == [
            DOCUMENTS[r["index"]] for r in found.results
        ]
    assert [r["index"] for r in found.results][:2] == [index for index, _ in order(reranker)][:2]
    assert [r["relevance_score"] for r in found.results][:2] == pytest.approx(
        [score for _, score in order(reranker)][:2], abs=1e-6
    )


def test_what_is_wrong_is_litellms_exception_with_our_sentence(embedder: Service, reranker: Service) -> None:
    # It has no exception of its own for a 422.
    with pytest.raises(litellm.exceptions.BadRequestError, match=r"422.*Send texts"):
        litellm.embedding(model="openai/any", input=[[1, 2]], api_base=f"{embedder.url}/v1", api_key="unused")
    with pytest.raises(litellm.exceptions.BadRequestError, match="`query` is empty"):
        litellm.rerank(
            model="cohere/any", query=" ", documents=["a"], api_base=reranker.url, api_key="unused"
        )


def test_the_right_key_and_a_wrong_one(guarded_embedder: Service, guarded_reranker: Service) -> None:
    base = f"{guarded_embedder.url}/v1"
    assert litellm.embedding(model="openai/any", input=["a"], api_base=base, api_key=KEY).data
    with pytest.raises(litellm.exceptions.AuthenticationError, match="A valid key is needed"):
        litellm.embedding(model="openai/any", input=["a"], api_base=base, api_key="wrong")
    ask = {"query": "q", "documents": ["a"], "api_base": guarded_reranker.url}
    assert litellm.rerank(model="cohere/any", api_key=KEY, **ask).results
    with pytest.raises(litellm.exceptions.AuthenticationError, match="A valid key is needed"):
        litellm.rerank(model="cohere/any", api_key="wrong", **ask)


def test_over_the_limit_it_waits_as_long_as_it_was_told(limited_embedder: Service) -> None:
    for _ in range(3):
        found = litellm.embedding(
            model="openai/any",
            input=["a"],
            api_base=f"{limited_embedder.url}/v1",
            api_key="unused",
            max_retries=4,
        )
        assert found.data
