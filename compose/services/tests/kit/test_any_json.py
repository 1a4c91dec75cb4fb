"""Whatever JSON arrives, the services answer it or say with a 4xx what is wrong; never a 5xx."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.running import Running, run_service

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.reranker.service import create_service as create_reranker

KEYS = st.sampled_from(
    [
        "inputs",
        "input",
        "query",
        "texts",
        "documents",
        "truncate",
        "truncation_direction",
        "normalize",
        "dimensions",
        "encoding_format",
        "top_n",
        "raw_scores",
        "return_documents",
        "prompt_name",
        "content",
        "text",
        "metadata",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=6)


@pytest.fixture(scope="module")
def services(tiny: dict[str, Path]) -> Iterator[tuple[Running, Running]]:
    env = {
        "GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"]),
        "GPUCTL_THREADS": "1",
        "GPUCTL_LOG_LEVEL": "error",
    }
    with run_service(create_embedder(env)) as embedder, run_service(create_reranker(env)) as reranker:
        yield embedder, reranker


@given(body=BODIES, path=st.sampled_from(["/embed", "/v1/embeddings", "/rerank", "/v2/rerank"]))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_gets_an_answer_or_a_4xx(services: tuple[Running, Running], body: object, path: str) -> None:
    running = services[1] if "rerank" in path else services[0]
    answer = running.public.post(path, content=json.dumps(body).encode())
    assert answer.status_code in {200, 400, 422}, answer.text
    if answer.status_code == 200 and path == "/embed":
        assert all(math.isfinite(value) for vector in answer.json() for value in vector)
    if answer.status_code != 200:
        assert len(answer.json()["message"]) > 20


@pytest.mark.parametrize("metadata", [str(2**64), '{"a":' * 300 + "1" + "}" * 300])
def test_a_document_that_cannot_be_sent_back_is_refused(
    services: tuple[Running, Running], metadata: str
) -> None:
    content = '{"query":"a","documents":[{"content":"b"},{"content":"c","metadata":' + metadata + "}]}"
    answer = services[1].public.post("/rerank", content=content)
    assert (answer.status_code, "documents[1]" in answer.json()["error"]) == (422, True)


def test_a_document_nested_as_deeply_as_allowed_is_sent_back(services: tuple[Running, Running]) -> None:
    content = '{"query":"a","documents":[{"content":"c","metadata":' + '{"a":' * 244 + "1" + "}" * 244 + "}]}"
    answer = services[1].public.post("/rerank", content=content)
    assert (answer.status_code, '"a":' * 3 in answer.text.replace("{", "")) == (200, True)
