"""The reranker over HTTP: three dialects, two ways of scoring, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.running import Running, run_service

from gpuctl_serving.reranker.scoring import ranking, sigmoid
from gpuctl_serving.reranker.service import create_service

QUERY = "How do I undo a bad deployment?"
TEXTS = [
    "Fresh basil, ripe tomatoes and mozzarella make a caprese salad.",
    "Rollback restores the previous release when a deploy fails.",
    "The capital of France is Paris.",
]


@pytest.fixture(scope="module")
def bi_encoder(minilm: Path) -> Iterator[Running]:
    with run_service(
        create_service({"GPUCTL_MODEL_DIR": str(minilm), "GPUCTL_MAX_ITEMS": "1000"})
    ) as running:
        yield running


@pytest.fixture(scope="module", params=["tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"])
def cross_encoder(request: pytest.FixtureRequest, tiny: dict[str, Path]) -> Iterator[tuple[str, Running]]:
    with run_service(create_service({"GPUCTL_MODEL_DIR": str(tiny[request.param])})) as running:
        yield request.param, running


def rerank(running: Running, path: str = "/rerank", **body: Any) -> Any:
    answer = running.public.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tei_gets_a_bare_list_best_first_with_every_item(bi_encoder: Running) -> None:
    answer = rerank(bi_encoder, query=QUERY, texts=TEXTS)
    assert answer[0]["index"] == 1
    assert sorted(entry["index"] for entry in answer) == [0, 1, 2]
    assert set(answer[0]) == {"index", "score"}
    scores = [entry["score"] for entry in answer]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert rerank(bi_encoder, query=QUERY, texts=TEXTS, return_text=True)[0]["text"] == TEXTS[1]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_get_the_object_jina_and_cohere_clients_read(bi_encoder: Running, path: str) -> None:
    answer = rerank(bi_encoder, path, query=QUERY, documents=TEXTS, top_n=2, model="any")
    assert len(answer["results"]) == 2
    best = answer["results"][0]
    assert (best["index"], best["document"]) == (1, {"text": TEXTS[1]})
    assert best["relevance_score"] == best["score"]
    assert (answer["model"], answer["device"]) == ("sentence-transformers/all-MiniLM-L6-v2", "cpu")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 0
    assert answer["id"]
    assert "document" not in rerank(
        bi_encoder, path, query=QUERY, documents=TEXTS, return_documents=False
    )["results"][0]  # fmt: skip


def test_documents_with_content_and_metadata_come_back_as_they_were_given(bi_encoder: Running) -> None:
    documents = [
        {"content": text, "metadata": {"n": n, "deep": [1, {"a": None}]}} for n, text in enumerate(TEXTS)
    ]
    answer = rerank(bi_encoder, query=QUERY, documents=[*documents, {"text": TEXTS[2], "own": 1}, TEXTS[0]])
    assert answer["results"][0]["document"] == documents[1]
    by_index = {result["index"]: result["document"] for result in answer["results"]}
    assert by_index[3] == {"text": TEXTS[2], "own": 1}


def test_coheres_limit_of_tokens_reads_no_more_of_a_document(bi_encoder: Running) -> None:
    long, short = "one two three four five six", "one two three"
    by_limit = rerank(bi_encoder, "/v2/rerank", query="three", documents=[long], max_tokens_per_doc=3)
    whole = rerank(bi_encoder, "/v2/rerank", query="three", documents=[short, long])
    scores = {result["index"]: result["score"] for result in whole["results"]}
    (found,) = by_limit["results"]
    assert abs(found["score"] - scores[0]) < 1e-5 < abs(found["score"] - scores[1])
    assert found["document"] == {"text": long}
    refused = bi_encoder.public.post(
        "/v2/rerank", json={"query": "q", "documents": ["a"], "max_tokens_per_doc": 0}
    )
    assert (refused.status_code, refused.json()["param"]) == (422, "max_tokens_per_doc")


def test_the_default_reranker_says_that_it_is_a_bi_encoder(bi_encoder: Running) -> None:
    info = bi_encoder.public.get("/info").json()
    assert (info["scoring"], info["model_type"]) == ("bi-encoder", {"embedding": {"pooling": "mean"}})
    raw = rerank(bi_encoder, query="same words", texts=["same words", "other"], raw_scores=True)
    assert abs(raw[0]["score"] - 1) < 1e-5
    mapped = rerank(bi_encoder, query="same words", texts=["same words", "other"])
    assert [m["score"] for m in mapped] == pytest.approx([(1 + r["score"]) / 2 for r in raw], abs=1e-6)


def test_a_cross_encoder_matches_its_reference_over_http(
    cross_encoder: tuple[str, Running], golden: Path
) -> None:
    name, running = cross_encoder
    assert running.public.get("/info").json()["scoring"] == "cross-encoder"
    for case in json.loads((golden / "models" / name / "reference.json").read_text())["cases"]:
        for raw, wanted in ((True, case["logits"]), (False, case["scores"])):
            answer = running.public.post(
                "/rerank",
                json={"query": case["query"], "texts": case["documents"], "raw_scores": raw},
                headers={"cache-control": "no-store"},
            )
            assert answer.headers["x-compute-tokens"] == str(sum(case["tokens"]))
            assert answer.headers["x-gpuctl-truncated"] == "1"
            found = {entry["index"]: entry["score"] for entry in answer.json()}
            assert [found[n] for n in range(len(wanted))] == pytest.approx(wanted, abs=1e-4)


def test_a_cross_encoder_proves_itself_by_a_pair(cross_encoder: tuple[str, Running]) -> None:
    proof = cross_encoder[1].private.post("/private/proof").json()
    assert proof["canary"]["ok"]
    assert cross_encoder[1].private.post("/private/warmup").is_success


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": "a"}, 422, "Neither `texts` nor `documents`"),
        ({"query": "a", "texts": ["b"], "documents": ["b"]}, 422, "Both `texts` and `documents`"),
        ({"query": "a", "texts": []}, 400, "`texts` is empty"),
        ({"query": "a", "documents": []}, 400, "`documents` is empty"),
        ({"query": "", "texts": ["b"]}, 400, "`query` is empty"),
        ({"query": "  \n", "texts": ["b"]}, 400, "`query` is empty"),
        ({"texts": ["b"]}, 422, "query"),
        ({"query": 7, "texts": ["b"]}, 422, "query"),
        ({"query": "a", "texts": [1]}, 422, "texts"),
        ({"query": "a", "documents": [{"body": "b"}]}, 422, "`documents[0]` has neither"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, 422, "`top_n` is 0"),
        ({"query": "a", "texts": ["b"] * 10_000}, 422, "at most 1000"),
        ({"query": "a", "documents": ["b"] * 10_000}, 422, "10000 items"),
        ({"query": "a", "texts": ["long " * 2000], "truncate": False}, 422, "longer than 256 tokens"),
    ],
)
def test_what_cannot_be_ranked_is_a_4xx_that_helps(
    bi_encoder: Running, body: object, status: int, said: str
) -> None:
    answer = bi_encoder.public.post("/rerank", json=body)
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_a_body_of_50_mb_is_refused(bi_encoder: Running) -> None:
    assert bi_encoder.public.post("/rerank", content=b" " * 50_000_000).status_code == 413


def test_sigmoid_never_overflows_and_equal_scores_keep_their_order() -> None:
    scores = sigmoid(np.array([-1e4, -1, 0, 1, 1e4], np.float32))
    assert scores.tolist() == pytest.approx([0, 0.26894143, 0.5, 0.7310586, 1])
    assert ranking(np.array([0.5, 0.9, 0.5, 0.9], np.float32)) == [1, 3, 0, 2]
