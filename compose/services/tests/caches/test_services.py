"""Remembered answers as clients see them: the same numbers, told apart, never for another question."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.engines.model_service import ModelService
from gpuctl_serving.kit.settings import SettingsError
from gpuctl_serving.reranker.service import create_service as create_reranker
from tests.caches.counting import Counting
from tests.support.running import Running, run_service

NO_STORE = {"cache-control": "no-store"}
#: A server that is not there: port 9 takes nobody.
NOWHERE = "redis://:hunter2@127.0.0.1:9/0"


def env(model: Path, **more: str) -> dict[str, str]:
    return {"GPUCTL_MODEL_DIR": str(model), **{f"GPUCTL_{n.upper()}": value for n, value in more.items()}}


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def embedder(tiny: dict[str, Path], counting: Counting) -> Iterator[Running]:
    with run_service(create_embedder(env(tiny["tiny-xlmr-embedder"], max_tokens="64"), counting)) as running:
        until_warm(running)
        counting.rows = 0  # The warm-up's.
        yield running


@pytest.fixture
def reranker(tiny: dict[str, Path], counting: Counting) -> Iterator[Running]:
    with run_service(create_reranker(env(tiny["tiny-bert-cross-encoder"]), counting)) as running:
        until_warm(running)
        counting.rows = 0  # The warm-up's.
        yield running


def until_warm(running: Running) -> None:
    """On a busy machine the warm-up goes on after the start."""
    service, end = running.service, time.monotonic() + 60
    assert isinstance(service, ModelService)
    while (held := service.served.supervisor.serving) is None or held.warmup.cold:
        assert time.monotonic() < end
        time.sleep(0.01)


def embed(
    running: Running, texts: list[str], headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    answer = running.public.post("/embed", json={"inputs": texts, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def metric(running: Running, line: str) -> float:
    for found in running.public.get("/metrics").text.splitlines():
        if found.startswith(line + " "):
            return float(found.split()[-1])
    raise AssertionError(f"no {line}")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_every_series_is_there_at_zero_before_the_first_request(embedder: Running) -> None:
    for series in (
        'gpuctl_cache_hits_total{level="memory"}',
        'gpuctl_cache_hits_total{level="redis"}',
        "gpuctl_cache_misses_total",
        "gpuctl_cache_bypassed_total",
        "gpuctl_cache_entries",
        "gpuctl_cache_bytes",
        "gpuctl_cache_hit_ratio",
        "gpuctl_cache_redis_up",
        *(f'gpuctl_cache_evictions_total{{reason="{why}"}}' for why in ("entries", "bytes", "expired")),
        *(
            f'gpuctl_cache_redis_errors_total{{kind="{kind}"}}'
            for kind in ("late", "connection", "bad-value", "dropped-write")
        ),
    ):
        assert metric(embedder, series) == 0


def test_a_known_text_costs_no_inference_is_the_same_number_for_number_and_is_told_apart(
    embedder: Running, counting: Counting
) -> None:
    first = embed(embedder, ["one", "two"])
    again = embed(embedder, ["two", "three", "one"])
    assert (first.headers["x-gpuctl-cache"], again.headers["x-gpuctl-cache"]) == ("0/2", "2/3")
    assert counting.rows == 3
    a, b = first.json(), again.json()
    assert (b[2], b[0]) == (a[0], a[1])
    one = embed(embedder, ["one"])
    assert (one.headers["x-gpuctl-cache"], one.headers["x-compute-tokens"]) == ("1/1", "0")
    assert one.headers["x-gpuctl-device"] == "cpu"
    usage = embedder.public.post("/v1/embeddings", json={"input": ["one", "two"]}).json()["usage"]
    assert usage["total_tokens"] == int(first.headers["x-compute-tokens"]) > 0
    assert metric(embedder, 'gpuctl_cache_hits_total{level="memory"}') == 5
    assert metric(embedder, "gpuctl_cache_misses_total") == 3
    assert metric(embedder, "gpuctl_cache_hit_ratio") == 5 / 8
    assert metric(embedder, "gpuctl_cache_entries") == 3


def test_the_form_of_an_answer_is_made_after_the_cache(embedder: Running, counting: Counting) -> None:
    embed(embedder, ["a text"])
    plain = np.array(embed(embedder, ["a text"], normalize=False).json())
    short = np.array(embed(embedder, ["a text"], dimensions=16).json())
    assert counting.rows == 1
    assert plain.shape[1] == 64
    assert np.allclose(short[0], plain[0, :16] / np.linalg.norm(plain[0, :16]), atol=1e-6)


def test_a_text_that_is_there_twice_is_computed_once_and_counted_as_it_was_sent(
    embedder: Running, counting: Counting
) -> None:
    answer = embed(embedder, ["same", "other", "same", "same"])
    rows = answer.json()
    assert rows[0] == rows[2] == rows[3] != rows[1]
    assert counting.rows == 2
    once = int(embed(embedder, ["same", "other"], NO_STORE).headers["x-compute-tokens"])
    assert int(answer.headers["x-compute-tokens"]) == once
    assert metric(embedder, "gpuctl_coalesced_total") == 2


def test_no_store_and_the_private_socket_always_reach_the_engine_and_leave_nothing(
    embedder: Running, counting: Counting
) -> None:
    for headers in (NO_STORE, {"cache-control": "max-age=0, no-cache"}, NO_STORE):
        assert embed(embedder, ["fresh"], headers).headers["x-gpuctl-cache"] == "0/1"
    assert embedder.private.post("/embed", json={"inputs": "fresh"}).headers["x-gpuctl-cache"] == "0/1"
    assert embed(embedder, ["fresh"]).headers["x-gpuctl-cache"] == "0/1"
    assert counting.rows == 5
    assert metric(embedder, "gpuctl_cache_bypassed_total") == 4


@pytest.mark.parametrize("off", ["cache_entries", "cache_bytes"])
def test_zero_switches_it_off(tiny: dict[str, Path], counting: Counting, off: str) -> None:
    service = create_embedder(env(tiny["tiny-xlmr-embedder"], **{off: "0"}), counting)
    with run_service(service) as running:
        until_warm(running)
        counting.rows = 0  # The warm-up's.
        for _ in range(3):
            assert embed(running, ["text"]).headers["x-gpuctl-cache"] == "0/1"
        assert (counting.rows, metric(running, "gpuctl_cache_entries")) == (3, 0)


def test_what_must_not_be_cut_is_refused_by_its_own_position_known_or_not(embedder: Running) -> None:
    long = "very long " * 100
    embed(embedder, [long])
    for texts, position in (([long, "new"], 0), (["new a", long], 1), (["new b", "x", long + "!"], 2)):
        refused = embedder.public.post("/embed", json={"inputs": texts, "truncate": False})
        assert refused.status_code == 422
        assert f"Input {position} is longer than 64 tokens" in refused.json()["error"]
    assert embed(embedder, [long]).headers["x-gpuctl-truncated"] == "1"


def test_the_side_that_is_cut_off_is_part_of_the_question(embedder: Running) -> None:
    long = "begin " + "middle " * 100 + "end"
    right = embed(embedder, [long], truncation_direction="Right")
    left = embed(embedder, [long], truncation_direction="Left")
    assert left.headers["x-gpuctl-cache"] == "0/1"
    assert left.json() != right.json()


def test_equal_texts_of_many_requests_in_flight_are_computed_once(
    embedder: Running, counting: Counting
) -> None:
    counting.hold()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(embed, embedder, ["popular"])]
        assert counting.inside.wait(5)
        answers += [pool.submit(embed, embedder, ["popular"]) for _ in range(11)]
        until(lambda: metric(embedder, "gpuctl_coalesced_total") == 11)
        counting.go.set()
        rows = [answer.result().json() for answer in answers]
    assert (counting.rows, all(row == rows[0] for row in rows)) == (1, True)
    assert sum(int(answer.result().headers["x-compute-tokens"]) > 0 for answer in answers) == 1
    assert embed(embedder, ["popular"]).headers["x-gpuctl-cache"] == "1/1"


def test_a_waiter_that_leaves_takes_nobody_with_it_even_the_first(
    embedder: Running, counting: Counting
) -> None:
    counting.hold()
    body = b'{"inputs":"popular"}'
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    first = socket.create_connection(("127.0.0.1", embedder.port))
    first.sendall(head + body)
    assert counting.inside.wait(5)
    with ThreadPoolExecutor(2) as pool:
        others: list[Future[httpx.Response]] = [pool.submit(embed, embedder, ["popular"]) for _ in range(2)]
        until(lambda: metric(embedder, "gpuctl_coalesced_total") == 2)
        # A reset, as when a client is killed.
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        until(lambda: metric(embedder, 'gpuctl_rejected_total{reason="cancelled"}') == 1)
        counting.go.set()
        assert [other.result().status_code for other in others] == [200, 200]
    assert counting.rows == 1


def test_a_failure_reaches_everyone_who_waits_and_is_not_remembered(
    embedder: Running, counting: Counting
) -> None:
    refused = embedder.public.post("/embed", json={"inputs": ["long " * 100], "truncate": False})
    assert refused.status_code == 422
    assert embed(embedder, ["long " * 100]).headers["x-gpuctl-cache"] == "0/1"
    counting.hold()
    counting.fail = RuntimeError("a kernel failed")
    before = counting.rows
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(embed, embedder, ["unlucky"])]
        assert counting.inside.wait(5)
        answers += [pool.submit(embed, embedder, ["unlucky"]) for _ in range(3)]
        until(lambda: metric(embedder, "gpuctl_coalesced_total") == 3)
        counting.go.set()
        # The batch is run once more for all of them, and its answer is the right one.
        rows = [answer.result().json() for answer in answers]
    # The batch, the canary of the engine that failed on it, and the batch again.
    assert counting.rows == before + 3
    wanted = embed(embedder, ["unlucky"], NO_STORE).json()
    assert all(np.allclose(row, wanted, atol=1e-6) for row in rows)


def test_scores_are_remembered_by_query_and_document_and_raw_or_not_is_decided_after(
    reranker: Running, counting: Counting
) -> None:
    def rank(query: str, texts: list[str], **more: Any) -> httpx.Response:
        return reranker.public.post("/rerank", json={"query": query, "texts": texts, **more})

    first = rank("q", ["a", "b"])
    raw = rank("q", ["b", "a"], raw_scores=True)
    assert (raw.headers["x-gpuctl-cache"], counting.rows) == ("2/2", 2)
    logit = {entry["index"]: entry["score"] for entry in raw.json()}
    score = {entry["index"]: entry["score"] for entry in first.json()}
    assert score[0] == pytest.approx(1 / (1 + np.exp(-logit[1])), abs=1e-6)
    assert rank("other q", ["a", "b"]).headers["x-gpuctl-cache"] == "0/2"
    assert rank("b", ["q"]).headers["x-gpuctl-cache"] == "0/1"


def test_a_redis_that_is_not_there_costs_nobody_anything(tiny: dict[str, Path], counting: Counting) -> None:
    service = create_embedder(env(tiny["tiny-xlmr-embedder"], redis_url=NOWHERE), counting)
    with run_service(service) as running:
        for n in range(5):
            answer = embed(running, [f"text {n}"])
            stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
            assert float(stages["cache"]) < 50
        until(lambda: metric(running, 'gpuctl_cache_redis_errors_total{kind="connection"}') >= 1)
        assert metric(running, "gpuctl_cache_redis_up") == 0
        assert embed(running, ["text 0"]).headers["x-gpuctl-cache"] == "1/1"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:6379", "does not begin with redis://"),
        ("redis://", "names no host"),
        ("redis://host:port", "is no URL"),
        ("unix://", "names no host"),
    ],
)
def test_a_redis_url_that_cannot_be_is_refused_at_start_without_repeating_it(
    tiny: dict[str, Path], url: str, said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        create_embedder(env(tiny["tiny-xlmr-embedder"], redis_url=url))
    assert said in str(refused.value)


def test_a_hundred_requests_at_once_for_few_texts_all_get_the_right_rows(
    embedder: Running, counting: Counting
) -> None:
    texts = [f"text number {n}" for n in range(10)]
    wanted = {text: embed(embedder, [text], NO_STORE).json()[0] for text in texts}
    counting.rows = 0

    async def ask(client: httpx.AsyncClient, n: int) -> None:
        asked = [texts[(n * 3 + k) % 10] for k in range(4)]
        rows = (await client.post("/embed", json={"inputs": asked})).json()
        for text, row in zip(asked, rows, strict=True):
            assert np.allclose(row, wanted[text], atol=1e-6)

    async def run() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{embedder.port}", timeout=30) as client:
            await asyncio.gather(*(ask(client, n) for n in range(100)))

    asyncio.run(run())
    assert counting.rows == 10
