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
