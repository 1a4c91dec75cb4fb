"""The `cohere` client (both of its versions) against the reranker."""

import cohere
import pytest
from cohere.core.api_error import ApiError

from tests_clients.conftest import KEY
from tests_clients.services import MINILM, Service

QUERY = "How do I undo a deploy?"
DOCUMENTS = [
    "The tower is 324 metres tall.",
    "gpuctl rollback puts the previous release back into service.",
    "Bread needs flour, water and salt.",
]


def order(service: Service) -> list[tuple[int, float]]:
    """Indices and scores by plain HTTP in TEI's shape."""
    found = service.post("/rerank", {"query": QUERY, "texts": DOCUMENTS}).json()
    return [(entry["index"], entry["score"]) for entry in found]


@pytest.fixture(params=["reranker", "cross_encoder"])
def service(request: pytest.FixtureRequest) -> Service:
    """Both kinds of model."""
    found: Service = request.getfixturevalue(request.param)
    return found


def test_version_two_ranks_as_plain_http_does(service: Service) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=service.url)
    found = client.rerank(model="any", query=QUERY, documents=DOCUMENTS)
    assert [r.index for r in found.results] == [index for index, _ in order(service)]
    assert [r.relevance_score for r in found.results] == pytest.approx(
        [s for _, s in order(service)], abs=1e-6
    )
    assert found.id
    assert found.meta.billed_units.search_units == 1
    assert found.meta.tokens.input_tokens > 10
    first = client.rerank(model="any", query=QUERY, documents=DOCUMENTS, top_n=1).results
    assert [r.index for r in first] == [found.results[0].index]


def test_the_real_model_finds_the_right_document(reranker: Service) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=reranker.url)
    assert client.rerank(model=MINILM, query=QUERY, documents=DOCUMENTS, top_n=1).results[0].index == 1


@pytest.mark.parametrize("documents", [DOCUMENTS, [{"text": text} for text in DOCUMENTS]])
def test_version_one_gets_its_documents_back(service: Service, documents: list[object]) -> None:
    client = cohere.Client(api_key="unused", base_url=service.url)
    found = client.rerank(query=QUERY, documents=documents, return_documents=True, top_n=2)
    assert [r.index for r in found.results] == [index for index, _ in order(service)][:2]
    assert [r.document.text for r in found.results] == [DOCUMENTS[r.index] for r in found.results]
    silent = client.rerank(query=QUERY, documents=documents, return_documents=False)
    assert [r.document for r in silent.results] == [None] * 3


def test_what_is_wrong_is_an_exception_with_our_sentence(reranker: Service) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=reranker.url)
    with pytest.raises(cohere.BadRequestError) as empty:
        client.rerank(model="any", query="  ", documents=DOCUMENTS)
    assert "`query` is empty" in empty.value.body["message"]
    with pytest.raises(cohere.UnprocessableEntityError) as wrong:
        client.rerank(model="any", query=QUERY, documents=DOCUMENTS, top_n=-1)
    assert "`top_n` is -1" in wrong.value.body["message"]


def test_the_right_key_and_a_wrong_one(guarded_reranker: Service) -> None:
    right = cohere.ClientV2(api_key=KEY, base_url=guarded_reranker.url)
    assert len(right.rerank(model="any", query=QUERY, documents=DOCUMENTS).results) == 3
    wrong = cohere.ClientV2(api_key="wrong", base_url=guarded_reranker.url)
    with pytest.raises(cohere.UnauthorizedError) as refused:
        wrong.rerank(model="any", query=QUERY, documents=DOCUMENTS)
    assert "A valid key is needed" in refused.value.body["message"]


def test_it_comes_back_after_a_429_when_told_to_try_again(limited_reranker: Service) -> None:
    client = cohere.ClientV2(api_key="unused", base_url=limited_reranker.url)
    for _ in range(2):
        found = client.rerank(
            model="any", query=QUERY, documents=DOCUMENTS, request_options={"max_retries": 4}
        )
        assert len(found.results) == 3
    with pytest.raises(ApiError) as refused:
        for _ in range(5):
            client.rerank(model="any", query=QUERY, documents=DOCUMENTS, request_options={"max_retries": 0})
    assert refused.value.status_code == 429
