"""What the clients send is written down, so that the default tests can replay it without them."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cohere
import litellm
import openai
import pytest
from haystack import Document
from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPITextEmbedder
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from haystack_integrations.components.rankers.huggingface_api.ranker import TruncationDirection
from huggingface_hub import InferenceClient
from langchain_openai import OpenAIEmbeddings
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as TeiRerank

from tests_clients.recording import recording
from tests_clients.services import SERVICES, Service
from tests_clients.test_cohere import DOCUMENTS, QUERY

RECORDED = SERVICES / "tests" / "contract" / "recorded.json"
TEXTS = ["a rollback restores everything", "the index loses nothing"]
KEY = "unused"


def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


def _langchain(url: str) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="default", base_url=f"{url}/v1", api_key=KEY, max_retries=0, check_embedding_ctx_length=False
    )


def _nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]


def _haystack(url: str) -> Any:
    documents = [Document(content=text) for text in DOCUMENTS]
    ranker = HuggingFaceTEIRanker(url=url, token=None, max_retries=1)
    return ranker.run(QUERY, documents, truncation_direction=TruncationDirection.LEFT)


def _haystack_embedder(url: str) -> Any:
    return HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference", api_params={"url": url}, token=None
    ).run(TEXTS[0])


def _litellm_rerank(provider: str) -> Callable[[str], Any]:
    return lambda url: litellm.rerank(
        model=f"{provider}/default", query=QUERY, documents=DOCUMENTS, api_base=url, api_key=KEY, top_n=2
    )


EMBEDDER: dict[str, Callable[[str], Any]] = {
    "openai": lambda url: _openai(url).embeddings.create(model="default", input=TEXTS),
    "openai, one text and fewer dimensions": lambda url: _openai(url).embeddings.create(
        model="default", input=TEXTS[0], dimensions=16, encoding_format="float", user="somebody"
    ),
    "openai, models": lambda url: list(_openai(url).models.list()),
    "openai, token ids": lambda url: _openai(url).embeddings.create(model="default", input=[[1, 2], [3]]),
    "langchain-openai": lambda url: _langchain(url).embed_documents(TEXTS),
    "litellm": lambda url: litellm.embedding(
        model="openai/default", input=TEXTS, api_base=f"{url}/v1", api_key=KEY
    ),
    "litellm, infinity": lambda url: litellm.embedding(
        model="infinity/default", input=TEXTS, api_base=url, api_key=KEY
    ),
    "llama-index": lambda url: TextEmbeddingsInference(
        model_name="default", base_url=url, auth_token=KEY
    ).get_text_embedding_batch(TEXTS),
    "haystack": _haystack_embedder,
    "huggingface_hub": lambda url: InferenceClient(model=url).feature_extraction(
        TEXTS, normalize=True, truncate=True, truncation_direction="Right"
    ),
    "huggingface_hub, similarity": lambda url: InferenceClient(model=f"{url}/similarity").sentence_similarity(
        TEXTS[0], other_sentences=TEXTS[1:]
    ),
}
RERANKER: dict[str, Callable[[str], Any]] = {
    "cohere, version 2": lambda url: cohere.ClientV2(api_key=KEY, base_url=url).rerank(
        model="default", query=QUERY, documents=DOCUMENTS, top_n=2, max_tokens_per_doc=512
    ),
    "cohere, version 1": lambda url: cohere.Client(api_key=KEY, base_url=url).rerank(
        query=QUERY, documents=DOCUMENTS, return_documents=True
    ),
    "cohere, version 1 with objects": lambda url: cohere.Client(api_key=KEY, base_url=url).rerank(
        query=QUERY, documents=[{"text": text} for text in DOCUMENTS], rank_fields=["text"]
    ),
    "litellm, cohere": _litellm_rerank("cohere"),
    "litellm, infinity": _litellm_rerank("infinity"),
    "litellm, jina": lambda url: _litellm_rerank("jina_ai")(f"{url}/v1/rerank"),
    "litellm, vllm": _litellm_rerank("hosted_vllm"),
    "llama-index": lambda url: TeiRerank(base_url=url).postprocess_nodes(_nodes(), QueryBundle(QUERY)),
    "haystack": _haystack,
}


def recorded() -> dict[str, dict[str, list[Any]]]:
    """What is checked in."""
    found: dict[str, dict[str, list[Any]]] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return found


def record(kind: str, client: str, heard: list[Any]) -> None:
    """Writes one client's requests into the file."""
    everything = recorded()
    everything.setdefault(kind, {})[client] = heard
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(everything, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


@pytest.mark.parametrize(
    ("kind", "client", "call"),
    [("embedder", *entry) for entry in EMBEDDER.items()]
    + [("reranker", *entry) for entry in RERANKER.items()],
)
def test_what_is_replayed_is_what_the_client_sends_today(
    request: pytest.FixtureRequest, kind: str, client: str, call: Callable[[str], Any]
) -> None:
    """Set GPUCTL_RECORD=1 to write down what the clients in locks/clients.txt send."""
    service: Service = request.getfixturevalue(kind)
    with recording(service.url) as recorder, suppress(Exception):
        call(recorder.url)
    assert recorder.heard
    if os.environ.get("GPUCTL_RECORD"):
        record(kind, client, recorder.heard)
    assert recorder.heard == recorded().get(kind, {}).get(client), "Record again with GPUCTL_RECORD=1."
