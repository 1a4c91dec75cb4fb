"""What a model was fetched with, INT8 or prompts, is what its service does."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.running import Running, run_service

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.kit.header_text import from_header
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore
from gpuctl_serving.reranker.service import create_service as create_reranker


def stored(golden: Path, tmp_path: Path, **options: Any) -> Path:
    spec = PathSpec(path=golden / "models/tiny-xlmr-embedder", pooling="mean", **options)
    return asyncio.run(fetch(spec, ModelStore(tmp_path), Progress(io.StringIO()))).directory


def service(model: Path) -> Any:
    # Answers are computed each time: a cache would make a text equal to itself.
    return run_service(create_service({"GPUCTL_MODEL_DIR": str(model), "GPUCTL_CACHE_ENTRIES": "0"}))


def vectors(running: Running, texts: list[str], **more: Any) -> np.ndarray:
    answer = running.public.post("/embed", json={"inputs": texts, **more})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), np.float64)


def test_an_int8_model_is_served_as_int8_and_neighbours_change_nothing(golden: Path, tmp_path: Path) -> None:
    texts = ["a short text", "another, much longer text " * 20, "東京", "x"]
    with service(stored(golden, tmp_path, dtype="int8")) as small:
        assert small.public.get("/info").json()["model_dtype"] == "int8"
        together = vectors(small, texts)
        alone = np.concatenate([vectors(small, [text]) for text in texts])
    with service(stored(golden, tmp_path)) as plain:
        original = vectors(plain, texts)
    assert np.abs(together - alone).max() < 1e-6
    assert (together * original).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("name", ["passage", "document", "search_document"])
def test_every_name_of_a_side_puts_the_models_own_words_before_a_text(
    golden: Path, tmp_path: Path, name: str
) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    with service(stored(golden, tmp_path, prompts=prompts)) as running:
        by_hand = vectors(running, ["passage: a text", "query: a text", "a text"])
        assert np.allclose(vectors(running, ["a text"], prompt_name=name)[0], by_hand[0], atol=1e-6)
        assert np.allclose(vectors(running, ["a text"], prompt_name="query")[0], by_hand[1], atol=1e-6)
        assert np.allclose(vectors(running, ["a text"])[0], by_hand[2], atol=1e-6)
        refused = running.public.post("/embed", json={"inputs": "a text", "prompt_name": "poem"})
        assert refused.status_code == 422
        assert json.loads(refused.text)["message"].endswith("it has: passage, query.")


def test_an_embedder_that_reranks_puts_its_words_before_the_query_and_the_documents(
    golden: Path, tmp_path: Path
) -> None:
    model = stored(golden, tmp_path, prompts={"query": "ask ", "passage": "answer "})
    with service(model) as embedder:
        query = vectors(embedder, ["what is it"], prompt_name="query")
        documents = vectors(embedder, ["a text", "another"], prompt_name="passage")
    with run_service(create_reranker({"GPUCTL_MODEL_DIR": str(model)})) as reranker:
        body = {"query": "what is it", "texts": ["a text", "another"], "raw_scores": True}
        ranked = reranker.public.post("/rerank", json=body).json()
    scores = [one["score"] for one in sorted(ranked, key=lambda one: one["index"])]
    assert np.allclose(scores, documents @ query[0], atol=1e-5)


def test_a_model_without_prompts_takes_a_query_as_it_is(tiny: dict[str, Path]) -> None:
    with service(tiny["tiny-xlmr-embedder"]) as running:
        assert np.allclose(
            vectors(running, ["a text"], prompt_name="query"), vectors(running, ["a text"]), atol=1e-6
        )


def test_a_line_feed_in_a_models_prompt_ends_no_header(golden: Path, tmp_path: Path) -> None:
    with service(stored(golden, tmp_path, prefix="Instruct: 100%\r\nx-evil: 1\nQuery: ")) as running:
        answer = running.public.post("/embed", json={"inputs": "a text"})
        assert answer.status_code == 200
        assert "x-evil" not in answer.headers
        said = running.public.get("/info").json()["generation"]
        assert "\r\nx-evil: 1\n" in said
        assert from_header(answer.headers["x-gpuctl-generation"]) == said
