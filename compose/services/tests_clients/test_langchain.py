"""LangChain's embeddings classes: the one that works with a base URL, and the one that refuses URLs."""

import pytest
import tiktoken
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings
from openai import AuthenticationError, UnprocessableEntityError

from tests_clients.conftest import KEY
from tests_clients.services import MINILM, Service

TEXTS = ["a rollback restores everything", "the index loses nothing"]


@pytest.fixture
def tiktoken_without_its_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoding of single bytes in place of the one that would be fetched."""
    bytes_alone = tiktoken.Encoding(
        name="bytes",
        pat_str=r"[\s\S]",
        mergeable_ranks={bytes([n]): n for n in range(256)},
        special_tokens={},
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", bytes_alone)


def embeddings(service: Service, key: str = "unused", **more: object) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(model=MINILM, base_url=f"{service.url}/v1", api_key=key, max_retries=0, **more)


def test_with_texts_it_gets_the_plain_vectors(embedder: Service) -> None:
    wanted = embedder.post("/embed", {"inputs": TEXTS}).json()
    langchain = embeddings(embedder, check_embedding_ctx_length=False)
    for found, vector in zip(langchain.embed_documents(TEXTS), wanted, strict=True):
        assert found == pytest.approx(vector, abs=1e-6)
    assert langchain.embed_query(TEXTS[0]) == pytest.approx(wanted[0], abs=1e-6)


@pytest.mark.usefixtures("tiktoken_without_its_download")
def test_its_default_of_token_ids_is_refused_with_the_setting_to_change(embedder: Service) -> None:
    """Ids of a foreign tokenizer would be silent garbage."""
    with pytest.raises(UnprocessableEntityError, match="check_embedding_ctx_length=False") as refused:
        embeddings(embedder).embed_documents(TEXTS)
    assert refused.value.param == "input"


def test_the_right_key_and_a_wrong_one(guarded_embedder: Service) -> None:
    right = embeddings(guarded_embedder, KEY, check_embedding_ctx_length=False)
    assert len(right.embed_documents(TEXTS)) == 2
    with pytest.raises(AuthenticationError, match="A valid key is needed"):
        embeddings(guarded_embedder, "wrong", check_embedding_ctx_length=False).embed_query("a")


def test_it_waits_out_a_429(limited_embedder: Service) -> None:
    patient = OpenAIEmbeddings(
        model="any",
        base_url=f"{limited_embedder.url}/v1",
        api_key="unused",
        max_retries=4,
        check_embedding_ctx_length=False,
    )
    assert all(patient.embed_query("a") for _ in range(2))


def test_the_hugging_face_class_refuses_addresses_before_it_asks_anybody(embedder: Service) -> None:
    with pytest.raises(ValueError, match="must be a HuggingFace repo ID, not a URL"):
        HuggingFaceEndpointEmbeddings(model=embedder.url)
