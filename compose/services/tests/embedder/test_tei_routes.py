"""TEI's smaller routes and OpenAI's list of models, of an embedder and a reranker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.running import Running, run_service

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.reranker.service import create_service as create_reranker

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def embedder(minilm: Path) -> Iterator[Running]:
    env = {"GPUCTL_MODEL_DIR": str(minilm), "GPUCTL_THREADS": "1", "GPUCTL_MAX_ITEMS": "50"}
    with run_service(create_service(env)) as running:
        yield running


def post(running: Running, path: str, body: Any) -> Any:
    answer = running.public.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_similarity_is_the_cosine_of_the_vectors(embedder: Running, golden: Path) -> None:
    items = json.loads((golden / "minilm-reference.json").read_text())["items"][:8]
    texts, vectors = [i["text"] for i in items], np.array([i["embedding"] for i in items])
    found = post(embedder, "/similarity", {"inputs": {"source_sentence": texts[0], "sentences": texts[1:]}})
    assert np.abs(np.array(found) - vectors[1:] @ vectors[0]).max() < 1e-4


def test_similarity_takes_teis_parameters_and_refuses_what_is_none(embedder: Running) -> None:
    inputs = {"source_sentence": "word " * 400, "sentences": ["word"]}
    parameters = {"truncate": True, "truncation_direction": "Left", "prompt_name": None}
    assert len(post(embedder, "/similarity", {"inputs": inputs, "parameters": parameters})) == 1
    for body, status, said in (
        ({"inputs": inputs, "parameters": {"truncate": False}}, 422, "longer than 256 tokens"),
        ({"inputs": inputs, "parameters": {"prompt_name": "poem"}}, 422, "no prompt 'poem'"),
        ({"inputs": {"source_sentence": "a", "sentences": []}}, 400, "`sentences` is empty"),
        ({"inputs": {"source_sentence": "a", "sentences": ["b"] * 51}}, 422, "at most 50"),
        ({"inputs": ["a", "b"]}, 422, "inputs"),
    ):
        answer = embedder.public.post("/similarity", json=body)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text


def test_tokens_say_where_in_the_text_they_are(embedder: Running) -> None:
    text = "Zürich is lovely 🚀"
    (found,) = post(embedder, "/tokenize", {"inputs": text})
    assert [t["text"] for t in found if t["special"]] == ["[CLS]", "[SEP]"]
    assert [(t["start"], t["stop"]) for t in found if t["special"]] == [(None, None)] * 2
    pieces = [t for t in found if not t["special"]]
    assert [t["text"] for t in pieces] == [text[t["start"] : t["stop"]] for t in pieces]
    assert "".join(t["text"] for t in pieces) == text.replace(" ", "")
    plain = post(embedder, "/tokenize", {"inputs": [text, "a"], "add_special_tokens": False})
    assert ([len(row) for row in plain], plain[0]) == ([len(pieces), 1], pieces)


def test_tokenising_cuts_nothing_off_and_has_its_own_limit(embedder: Running) -> None:
    (found,) = post(embedder, "/tokenize", {"inputs": "word " * 2000})
    assert len(found) == 2002
    refused = embedder.public.post("/tokenize", json={"inputs": ["x" * 600_000] * 2})
    assert (refused.status_code, "at most 1000000" in refused.json()["error"]) == (422, True)
    assert embedder.public.post("/tokenize", json={"inputs": []}).status_code == 400


def test_the_root_answers_as_embed_does_for_clients_that_know_only_an_address(embedder: Running) -> None:
    body = {"inputs": ["one", "two"]}
    assert np.allclose(post(embedder, "/", body), post(embedder, "/embed", body), atol=1e-6)


def test_the_one_model_is_listed_and_found_by_its_name(embedder: Running) -> None:
    listed = embedder.public.get("/v1/models").json()
    assert (listed["object"], [m["id"] for m in listed["data"]]) == ("list", [MINILM])
    one = embedder.public.get(f"/v1/models/{MINILM}").json()
    assert one == listed["data"][0]
    assert (one["object"], one["owned_by"], one["created"] > 1_700_000_000) == ("model", "gpuctl", True)
    assert embedder.public.get(f"/v1/models/{MINILM.replace('/', '%2F')}").json() == one
    missing = embedder.public.get("/v1/models/gpt-4")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
    assert MINILM in missing.json()["error"]["message"]


def test_a_reranker_has_them_too(tiny: dict[str, Path]) -> None:
    env = {"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"])}
    with run_service(create_reranker(env)) as running:
        assert post(running, "/tokenize", {"inputs": "a text"})[0][0]["special"]
        assert running.public.get("/v1/models").json()["data"][0]["id"] == "local/tiny-bert-cross-encoder"
        assert post(running, "/", {"query": "a", "texts": ["b"]})[0]["index"] == 0


#: As TEI's `Info` has them, in its order.
TEI_INFO = (
    *("model_id", "model_sha", "model_dtype", "served_model_name", "model_type"),
    *("max_concurrent_requests", "max_input_length", "max_batch_tokens", "max_batch_requests"),
    *("max_client_batch_size", "auto_truncate", "tokenization_workers", "version", "sha", "docker_label"),
)
TEI_TIMES = ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time")


def test_info_has_every_key_of_teis_with_its_type(embedder: Running, tiny: dict[str, Path]) -> None:
    env = {"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"]), "GPUCTL_MAX_QUEUE_TOKENS": "5000"}
    with run_service(create_reranker(env)) as reranker:
        found = [running.public.get("/info").json() for running in (embedder, reranker)]
    for info in found:
        assert set(TEI_INFO) <= set(info)
        for key in ("model_id", "model_sha", "model_dtype", "served_model_name", "version"):
            assert isinstance(info[key], str) and info[key]
        for key in TEI_INFO:
            if (key.startswith("max_") and key != "max_batch_requests") or key == "tokenization_workers":
                assert isinstance(info[key], int) and info[key] > 0, key
        # No build of TEI's, and no limit on the number of a batch's texts.
        assert [info[key] for key in ("max_batch_requests", "sha", "docker_label")] == [None] * 3
    assert found[0]["model_type"] == {"embedding": {"pooling": "mean"}}
    assert "reranker" in found[1]["model_type"]
    assert found[1]["max_concurrent_requests"] == 5000


def test_answers_carry_teis_headers_of_what_they_cost(embedder: Running, tiny: dict[str, Path]) -> None:
    fresh = {"cache-control": "no-store"}
    env = {"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"])}
    similarity = {"inputs": {"source_sentence": "one", "sentences": ["three", "seven"]}}
    with run_service(create_reranker(env)) as reranker:
        for running, path, body, characters in (
            (embedder, "/embed", {"inputs": ["word " * 300, "Zürich"]}, 1506),
            (embedder, "/", {"inputs": "one"}, 3),
            (embedder, "/similarity", similarity, 13),
            # The model reads the query once for each text.
            (reranker, "/rerank", {"query": "four", "texts": ["one", "three"]}, 16),
        ):
            headers = running.public.post(path, json=body, headers=fresh).headers
            assert headers["x-compute-characters"] == str(characters)
            assert int(headers["x-compute-tokens"]) > 0
            times = {name: int(headers[name]) for name in TEI_TIMES}
            assert min(times.values()) >= 0
            assert times["x-compute-time"] == times["x-total-time"]
            if path == "/":  # One batch: those of a request with several may run side by side.
                assert sum(times[name] for name in TEI_TIMES[2:]) <= times["x-total-time"]
            timing = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
            for name in ("inference", "queue"):
                assert -0.01 < float(timing[name]) - times[f"x-{name}-time"] < 1.01
            assert -0.01 < float(timing["tokenize"]) - times["x-tokenization-time"] < 1.01
            assert 0 <= float(timing["total"]) - times["x-total-time"] < 5000
    long = embedder.public.post("/embed", json={"inputs": ["word " * 300] * 4}, headers=fresh)
    assert int(long.headers["x-inference-time"]) > 0


def test_openais_route_refuses_what_does_not_fit_when_it_is_told_to(embedder: Running) -> None:
    body = {"input": ["fits", "word " * 400]}
    for cut in ({}, {"truncate": True}, {"truncate": None}):
        answer = embedder.public.post("/v1/embeddings", json=body | cut)
        assert (answer.status_code, answer.headers["x-gpuctl-truncated"]) == (200, "1")
    for path in ("/v1/embeddings", "/embeddings"):
        refused = embedder.public.post(path, json=body | {"truncate": False})
        tei = embedder.public.post("/embed", json={"inputs": body["input"], "truncate": False})
        assert refused.status_code == tei.status_code == 422
        assert "Input 1 is longer than 256 tokens" in refused.json()["error"]["message"]
        fits = embedder.public.post(path, json={"input": "fits", "truncate": False})
        assert (fits.status_code, fits.headers["x-gpuctl-truncated"]) == (200, "0")
