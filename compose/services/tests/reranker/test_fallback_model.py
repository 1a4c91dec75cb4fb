"""A smaller model in place of a large one: when it answers, how it is said, what becomes of the rest."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.support.running import Running

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.presence import Machine
from gpuctl_serving.engines.protocol import Engine, EngineFacts, EngineSpec, Rows, TokenBatch, WorkerDied
from gpuctl_serving.engines.select import plan_engines
from gpuctl_serving.engines.state import Policy
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.reranker.scoring import ranking
from gpuctl_serving.reranker.service import Reranker, create_service
from gpuctl_serving.reranker.shedding import affordable, with_unranked

Serve = Callable[[ServiceBase], Running]

TEXTS = [f"document number {n}" for n in range(10)]


class StubGpu(OnnxCpuEngine):
    """The CPU engine, which says that it is a GPU, until it is lost."""

    lost = False

    def load(self, model: Path) -> EngineFacts:
        facts = super().load(model)
        return EngineFacts("cuda", "stub", "float32", facts.providers, facts.threads)

    def infer(self, batch: TokenBatch) -> Rows:
        if type(self).lost:
            raise WorkerDied("a test killed it")
        return super().infer(batch)


def make(spec: EngineSpec) -> Engine:
    return StubGpu(1) if spec.device == "cuda" else OnnxCpuEngine(1)


def reranker(tiny: dict[str, Path], *, gpu: bool, **settings: str) -> Reranker:
    env = {
        "GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-cross-encoder"]),
        "GPUCTL_FALLBACK_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"]),
        **settings,
    }
    StubGpu.lost = False
    service = create_service(env, make)
    if gpu:
        machine = Machine(gpus=("Stub",), torch="2.9")
        service.served.plan = plan_engines(service.settings, machine)
    service.served.policy = Policy(backoff=60)
    return service


def rerank(running: Running, **body: Any) -> tuple[Any, dict[str, str]]:
    answer = running.public.post("/rerank", json={"query": "which?", **body})
    assert answer.status_code == 200, answer.text
    return answer.json(), dict(answer.headers)


def settled(running: Running) -> None:
    end = time.monotonic() + 10
    while any(e["state"] != "up" for e in running.public.get("/info").json()["engines"]):
        assert time.monotonic() < end
        time.sleep(0.01)


def metric(running: Running, line: str) -> bool:
    return line in running.public.get("/metrics").text


def test_the_smaller_model_takes_over_when_the_gpu_is_lost_and_every_answer_says_so(
    tiny: dict[str, Path], serve: Serve
) -> None:
    running = serve(reranker(tiny, gpu=True, GPUCTL_FALLBACK_MAX_CANDIDATES="4"))
    settled(running)
    body, headers = rerank(running, documents=TEXTS)
    assert (body["model"], body["device"], "fallback" in body) == (
        "local/tiny-xlmr-cross-encoder",
        "cuda",
        False,
    )
    assert not {"x-gpuctl-fallback", "x-gpuctl-ranked", "x-gpuctl-device-reason"} & set(headers)

    StubGpu.lost = True
    body, headers = rerank(running, documents=[*TEXTS, "another"])
    assert (body["model"], body["device"], body["fallback"]) == ("local/tiny-bert-cross-encoder", "cpu", True)
    assert len(body["results"]) == 11
    assert headers["x-gpuctl-fallback"] == "local/tiny-bert-cross-encoder"
    assert (headers["x-gpuctl-device"], headers["x-gpuctl-device-reason"]) == ("cpu", "worker-died")
    assert headers["x-gpuctl-ranked"] == "4/11"
    assert sorted(result["index"] for result in body["results"][:4]) == [0, 1, 2, 3]
    assert [result["index"] for result in body["results"][4:]] == [*range(4, 11)]

    health = running.public.get("/health").json()
    assert (health["status"], health["model"], health["fallback"]) == (
        "degraded",
        "local/tiny-bert-cross-encoder",
        True,
    )
    assert metric(running, "gpuctl_fallback_answers_total 1.0")
    assert metric(running, "gpuctl_unranked_total 7.0")
    assert metric(running, 'gpuctl_fallback_total{from="cuda",reason="worker-died",to="cpu"} 1.0')


def test_tei_clients_get_every_item_back_also_when_candidates_are_cut(
    tiny: dict[str, Path], serve: Serve
) -> None:
    running = serve(reranker(tiny, gpu=False, GPUCTL_FALLBACK_MAX_CANDIDATES="3"))
    for raw in (False, True):
        body, headers = rerank(running, texts=TEXTS, raw_scores=raw)
        assert sorted(entry["index"] for entry in body) == [*range(10)]
        scores = [entry["score"] for entry in body]
        assert scores == sorted(scores, reverse=True)
        assert headers["x-gpuctl-ranked"] == "3/10"
        assert raw or all(0 <= score <= 1 for score in scores)


def test_without_a_gpu_the_smaller_model_answers_unless_the_cpu_was_asked_for(
    tiny: dict[str, Path], serve: Serve
) -> None:
    running = serve(reranker(tiny, gpu=False))
    body, _ = rerank(running, documents=TEXTS)
    assert (body["model"], body["fallback"]) == ("local/tiny-bert-cross-encoder", True)
    assert running.public.get("/health").json()["device_reason"] == "provider-absent"
    assert running.public.get("/health/ready").status_code == 200

    by_wish = serve(reranker(tiny, gpu=False, GPUCTL_DEVICE="cpu"))
    body, _ = rerank(by_wish, documents=TEXTS)
    assert (body["model"], "fallback" in body) == ("local/tiny-xlmr-cross-encoder", False)
    assert by_wish.public.get("/health").json()["status"] == "healthy"


def test_gates_on_the_private_socket_get_every_candidate_ranked(tiny: dict[str, Path], serve: Serve) -> None:
    running = serve(reranker(tiny, gpu=False, GPUCTL_FALLBACK_MAX_CANDIDATES="3"))
    answer = running.private.post("/rerank", json={"query": "which?", "texts": TEXTS})
    assert "x-gpuctl-ranked" not in answer.headers
    assert answer.headers["x-gpuctl-fallback"] == "local/tiny-bert-cross-encoder"


def test_a_required_gpu_is_not_replaced_by_a_smaller_model(tiny: dict[str, Path], serve: Serve) -> None:
    running = serve(reranker(tiny, gpu=True, GPUCTL_REQUIRE="cuda"))
    assert rerank(running, texts=TEXTS)[1]["x-gpuctl-device"] == "cuda"
    StubGpu.lost = True
    running.public.post("/rerank", json={"query": "a", "texts": ["b"]})
    refused = running.public.post("/rerank", json={"query": "a", "texts": ["c"]})
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert running.public.get("/health/ready").status_code == 503


@given(st.lists(st.text(max_size=50), min_size=1, max_size=50), st.floats(0, 1e6), st.floats(0.01, 30))
def test_what_is_affordable_is_at_least_one_and_grows_with_speed(
    texts: list[str], rate: float, seconds: float
) -> None:
    def most(speed: float) -> int:
        return affordable(texts, "q", tokens_per_second=speed, seconds=seconds, max_tokens=512)

    assert most(rate) >= 1
    assert rate == 0 or most(rate) <= most(rate * 2) <= len(texts)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20), st.integers(0, 20), st.booleans())
def test_unranked_candidates_come_last_in_their_order(scores: list[float], more: int, raw: bool) -> None:
    given_scores = np.array(scores, np.float32)
    everything = with_unranked(given_scores, len(scores) + more, raw=raw)
    order = ranking(everything)
    assert order[: len(scores)] == ranking(given_scores)
    assert order[len(scores) :] == [*range(len(scores), len(scores) + more)]
    assert raw or (everything >= 0).all()
