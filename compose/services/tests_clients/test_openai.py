"""The `openai` client against the embedder."""

from pathlib import Path

import openai
import pytest

from tests_clients.conftest import KEY
from tests_clients.services import MINILM, Service, running

TEXTS = ["a rollback restores everything", "der Index verliert nichts", "🚀"]


def client(service: Service, key: str = "unused", retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=retries, timeout=30)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_vectors_are_those_of_the_plain_route(embedder: Service, encoding: str | None) -> None:
    """Without a wish of the caller's the client itself asks for base64."""
    wanted = embedder.post("/embed", {"inputs": TEXTS}).json()
    chosen = {} if encoding is None else {"encoding_format": encoding}
    found = client(embedder).embeddings.create(model=MINILM, input=TEXTS, **chosen)
    assert [entry.index for entry in found.data] == [0, 1, 2]
    if encoding == "base64":
        assert all(isinstance(entry.embedding, str) for entry in found.data)
    else:
        for entry, vector in zip(found.data, wanted, strict=True):
            assert entry.embedding == pytest.approx(vector, abs=1e-6)
    assert (found.object, found.model) == ("list", MINILM)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 10


def test_a_single_text_and_fewer_dimensions(embedder: Service) -> None:
    found = client(embedder).embeddings.create(model="any", input="one text", dimensions=64)
    assert len(found.data) == 1
    assert sum(x * x for x in found.data[0].embedding) == pytest.approx(1, abs=1e-4)
    assert len(found.data[0].embedding) == 64


def test_the_raw_answer_has_our_headers(embedder: Service) -> None:
    raw = client(embedder).embeddings.with_raw_response.create(model="any", input="never asked before")
    assert raw.headers["x-gpuctl-device"] == "cpu"
    assert raw.headers["x-gpuctl-truncated"] == "0"
    assert raw.request_id == raw.headers["x-request-id"]
    assert "inference;dur=" in raw.headers["server-timing"]


def test_models_are_listed_and_found(embedder: Service, reranker: Service) -> None:
    for service in (embedder, reranker):
        assert [model.id for model in client(service).models.list()] == [MINILM]
        assert client(service).models.retrieve(MINILM).owned_by == "gpuctl"
        with pytest.raises(openai.NotFoundError) as missing:
            client(service).models.retrieve("gpt-4")
        assert missing.value.code == "not_found"


@pytest.mark.parametrize(
    ("wrong", "status", "param", "said"),
    [
        ({"input": "a", "dimensions": 9999}, 422, "dimensions", "this model gives 1 to 384"),
        ({"input": []}, 400, "input", "`input` is empty"),
        ({"input": [[1, 2, 3]]}, 422, "input", "Send texts"),
        ({"input": "a", "encoding_format": "int8"}, 422, "encoding_format", "`float` or `base64`"),
    ],
)
def test_what_is_wrong_reaches_the_caller_as_openais_exception(
    embedder: Service, wrong: dict[str, object], status: int, param: str, said: str
) -> None:
    kind = openai.BadRequestError if status == 400 else openai.UnprocessableEntityError
    with pytest.raises(kind, match=said) as raised:
        client(embedder).embeddings.create(model="any", **wrong)
    error = raised.value
    assert (error.status_code, error.param, error.type) == (status, param, "invalid_request_error")
    assert error.body["message"]
    assert error.request_id


def test_the_right_key_and_a_wrong_one(guarded_embedder: Service) -> None:
    assert client(guarded_embedder, KEY).embeddings.create(model="any", input="a").data
    with pytest.raises(openai.AuthenticationError, match="A valid key is needed") as refused:
        client(guarded_embedder, "wrong").embeddings.create(model="any", input="a")
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")


def test_a_key_over_its_limit_is_tried_again_when_the_service_said(limited_embedder: Service) -> None:
    patient, hasty = client(limited_embedder, retries=4), client(limited_embedder)
    assert all(patient.embeddings.create(model="any", input="a").data for _ in range(2))
    with pytest.raises(openai.RateLimitError, match="1 requests every second") as refused:
        for _ in range(5):
            hasty.embeddings.create(model="any", input="a")
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] == "1"


def test_a_service_that_is_still_loading_is_waited_for(scratch: Path, tiny_embedder: Path) -> None:
    with running("embedder", scratch / "slow-start.log", wait=False, model_dir=tiny_embedder) as service:
        assert client(service, retries=20).embeddings.create(model="any", input="a").data
