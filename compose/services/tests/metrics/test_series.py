"""Every series of a service is there at zero from its start, and one known batch moves what it should."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.index.ann.replica.told import Told
from gpuctl_serving.index.service import IndexService
from gpuctl_serving.index.service import create_service as create_index
from gpuctl_serving.reranker.service import create_service as create_reranker
from tests.metrics.exposed import Series, registered, series, values
from tests.support.running import Running, run_service

SERVICES = Path(__file__).parents[2]
SEARCH = "/api/v1/vector-store/search"

CODES = ("200", "204", "400", "401", "403", "404", "405", "413", "422", "429", "499", "500", "503", "504")
REASONS = (
    *("empty", "malformed", "validation", "body_too_large", "unauthorized", "cross_site", "queue_full"),
    *("rate_limited", "unavailable", "deadline", "cancelled"),
)
DEVICES = ("cuda", "mps", "cpu")
FAULTS = (
    *("provider-absent", "load-failure", "canary-mismatch", "non-finite", "device-error", "out-of-memory"),
    *("worker-died", "worker-hung", "nvml-fault"),
)
STATES = ("loading", "ready", "degraded", "recovering", "failed")
REPLICA_FAULTS = (
    *("out-of-memory", "device-error", "replica-died", "replica-hung", "no-clone", "load-failure"),
    *("copy-failure", "replica-busy"),
)

Labels = Mapping[str, tuple[str, ...]]
NONE: Labels = {}
DEVICE: Labels = {"device": DEVICES}

#: Metric -> the values of each of its labels; histograms by the name without `_sum` and `_count`.
COMMON: dict[str, Labels] = {
    "gpuctl_inflight_requests": NONE,
    "gpuctl_slow_requests_total": NONE,
    "gpuctl_api_keys": NONE,
    "gpuctl_key_reloads_total": {"outcome": ("changed", "kept")},
    "gpuctl_ready": NONE,
}
MODEL: dict[str, Labels] = COMMON | {
    "gpuctl_rejected_total": {"reason": REASONS},
    **dict.fromkeys(("gpuctl_tokenize_seconds", "gpuctl_queue_seconds", "gpuctl_inference_seconds"), DEVICE),
    **dict.fromkeys(("gpuctl_batch_size", "gpuctl_batch_tokens", "gpuctl_padding_ratio"), NONE),
    "gpuctl_computed_tokens_total": NONE,
    "gpuctl_queue_tokens": NONE,
    "gpuctl_truncated_total": NONE,
    "gpuctl_nonfinite_total": NONE,
    "gpuctl_coalesced_total": NONE,
    "gpuctl_fallback_total": {"from": DEVICES, "to": ("cpu",), "reason": FAULTS},
    "gpuctl_out_of_memory_total": NONE,
    "gpuctl_retried_rows_total": NONE,
    "gpuctl_given_up_rows_total": NONE,
    "gpuctl_worker_restarts_total": {"slot": ("primary", "fallback")},
    "gpuctl_engine_state": {"state": STATES},
    "gpuctl_batch_budget_tokens": NONE,
    "gpuctl_cache_hits_total": {"level": ("memory", "redis")},
    "gpuctl_cache_misses_total": NONE,
    "gpuctl_cache_bypassed_total": NONE,
    "gpuctl_cache_evictions_total": {"reason": ("entries", "bytes", "expired")},
    "gpuctl_cache_redis_errors_total": {"kind": ("late", "connection", "bad-value", "dropped-write")},
    "gpuctl_cache_redis_up": NONE,
    "gpuctl_cache_entries": NONE,
    "gpuctl_cache_bytes": NONE,
    "gpuctl_cache_hit_ratio": NONE,
}
EXPECTED: dict[str, dict[str, Labels]] = {
    "embedder": MODEL,
    "reranker": MODEL | {"gpuctl_fallback_answers_total": NONE, "gpuctl_unranked_total": NONE},
    "index": COMMON
    | {
        "gpuctl_rejected_total": {"reason": (*REASONS, "conflict")},
        "gpuctl_search_seconds": {"device": ("cpu", "cuda")},
        "gpuctl_search_batch_size": NONE,
        "gpuctl_vector_replica_faults_total": {"reason": REPLICA_FAULTS},
        "gpuctl_vector_replica_state": {
            "state": ("off", "starting", "waiting", "copying", "searching", "failed")
        },
        "gpuctl_vector_items_written_total": {"op": ("added", "updated", "deleted")},
        "gpuctl_vector_promotions_total": {"outcome": ("done", "failed", "abandoned")},
        "gpuctl_vector_log_sync_seconds": NONE,
        **dict.fromkeys(
            (
                *("gpuctl_vector_recall_probe", "gpuctl_vector_trained", "gpuctl_vector_promoting"),
                *("gpuctl_vector_replica_lag", "gpuctl_vector_replica_ready", "gpuctl_vector_count"),
                *("gpuctl_vector_index_bytes", "gpuctl_vector_snapshot_age_seconds"),
                *("gpuctl_vector_log_stopped", "gpuctl_vector_sequence", "gpuctl_vector_writer"),
                "gpuctl_vector_group_commits",
            ),
            NONE,
        ),
    },
}
HISTOGRAMS = {"gpuctl_padding_ratio", "gpuctl_batch_size", "gpuctl_batch_tokens", "gpuctl_search_batch_size"}
#: The one series of `gpuctl_device_info` while no device is proven.
UNPROVEN = series(
    "gpuctl_device_info", **dict.fromkeys(("device", "engine", "dtype", "model", "revision"), "none")
)


def expected(service: str) -> set[Series]:
    """Every series of a service, buckets left out."""
    document = json.loads((SERVICES / "openapi" / f"{service}.json").read_text(encoding="utf-8"))
    # Parameters that may hold slashes have a mark in the service's own patterns.
    marked = {"/v1/models/{model}": "/v1/models/{model:path}", "/items/{id}": "/items/{id:path}"}
    routes = [_marked(path, marked) for path in document["paths"]] + ["none"]
    codes = (*CODES, "202", "409", "507") if service == "index" else CODES
    found = {series("gpuctl_requests_total", route=r, code=c) for r in routes if r != "none" for c in codes}
    found |= {series("gpuctl_requests_total", route="none", code=code) for code in CODES}
    for ending in ("sum", "count"):
        found |= {series(f"gpuctl_request_seconds_{ending}", route=route) for route in routes}
    for name, labels in EXPECTED[service].items():
        histogram = name.endswith("_seconds") and name != "gpuctl_vector_snapshot_age_seconds"
        names = [f"{name}_sum", f"{name}_count"] if histogram or name in HISTOGRAMS else [name]
        for each, given in itertools.product(names, itertools.product(*labels.values())):
            found.add(series(each, **dict(zip(labels, given, strict=True))))
    return found


def _marked(path: str, marked: Mapping[str, str]) -> str:
    return next((path.replace(plain, mark) for plain, mark in marked.items() if path.endswith(plain)), path)


def scraped(running: Running) -> dict[Series, float]:
    return values(running.public.get("/metrics").text)


def not_zero(found: dict[Series, float]) -> dict[Series, float]:
    return {each: value for each, value in found.items() if value and each[0] != "gpuctl_device_info"}


@pytest.fixture
def embedder(tiny: dict[str, Path]) -> Iterator[Running]:
    env = {
        "GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"]),
        "GPUCTL_DEVICE": "cpu",
        "GPUCTL_SLO_MS": "123",
    }
    with run_service(create_embedder(env), load=False) as running:
        yield running


@pytest.fixture
def reranker(tiny: dict[str, Path]) -> Iterator[Running]:
    env = {"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"]), "GPUCTL_DEVICE": "cpu"}
    with run_service(create_reranker(env), load=False) as running:
        yield running


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Running]:
    env = {"GPUCTL_INDEX_DIR": str(tmp_path), "GPUCTL_DEVICE": "cpu", "GPUCTL_SLO_MS": "123"}
    with run_service(create_index(env), load=False) as running:
        yield running


@pytest.mark.parametrize("service", ["embedder", "reranker", "index"])
def test_every_series_is_there_at_zero_from_the_start_and_none_is_added_by_loading(
    service: str, request: pytest.FixtureRequest
) -> None:
    running: Running = request.getfixturevalue(service)
    found = scraped(running)
    assert set(found) - {UNPROVEN} == expected(service)
    # The request that asks is in flight itself.
    loading = {series("gpuctl_engine_state", state="loading"): 1.0} if service != "index" else {}
    assert not_zero(found) == {series("gpuctl_inflight_requests"): 1.0} | loading
    assert found[UNPROVEN] == 0
    running.service.load()
    loaded = scraped(running)
    (device,) = {each for each in loaded if each[0] == "gpuctl_device_info"}
    assert (dict(device[1])["device"], loaded[device]) == ("cpu", 1.0)
    assert set(loaded) - {device} == expected(service)
    assert loaded[series("gpuctl_ready")] == 1


def test_the_table_of_this_test_is_that_of_what_is_registered() -> None:
    for service, families in registered().items():
        elsewhere = {"gpuctl_requests_total", "gpuctl_request_seconds", "gpuctl_device_info"}
        assert set(families) == set(EXPECTED[service]) | elsewhere


CPU = {"device": "cpu"}
STAGE_SECONDS = [series(f"gpuctl_{stage}_seconds_sum", **CPU) for stage in ("tokenize", "queue", "inference")]


def one_batch(rows: int) -> dict[Series, float]:
    """What one request moves that runs as one batch."""
    return {
        **{series(f"gpuctl_{stage}_seconds_count", **CPU): 1 for stage in ("tokenize", "queue", "inference")},
        series("gpuctl_batch_size_count"): 1,
        series("gpuctl_batch_size_sum"): rows,
        series("gpuctl_batch_tokens_count"): 1,
        series("gpuctl_padding_ratio_count"): 1,
    }


def test_one_batch_of_an_embedder_moves_what_it_should_by_as_much_as_it_should(embedder: Running) -> None:
    embedder.service.load()
    texts = ["one", "two three four", "five"]
    tokens = [len(row) for row in embedder.public.post("/tokenize", json={"inputs": texts}).json()]
    before = scraped(embedder)
    answer = embedder.public.post("/embed", json={"inputs": texts})
    assert answer.status_code == 200
    moved = difference(before, scraped(embedder))
    padded = 3 * max(tokens)
    assert_moved(
        moved,
        {
            **one_batch(rows=3),
            series("gpuctl_batch_tokens_sum"): padded,
            series("gpuctl_padding_ratio_sum"): padded / sum(tokens),
            series("gpuctl_computed_tokens_total"): sum(tokens),
            series("gpuctl_cache_misses_total"): 3,
            series("gpuctl_cache_entries"): 3,
            series("gpuctl_requests_total", route="/embed", code="200"): 1,
            series("gpuctl_request_seconds_count", route="/embed"): 1,
        },
        {
            *STAGE_SECONDS,
            series("gpuctl_request_seconds_sum", route="/embed"),
            series("gpuctl_cache_bytes"),
        },
    )
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    for stage in ("tokenize", "inference"):
        seconds = moved[series(f"gpuctl_{stage}_seconds_sum", **CPU)]
        assert seconds * 1000 == pytest.approx(float(timing[stage]), abs=1)
    before = scraped(embedder)
    embedder.public.post("/embed", json={"inputs": [*texts, "word " * 9000]})
    moved = difference(before, scraped(embedder))
    assert moved[series("gpuctl_cache_hits_total", level="memory")] == 3
    assert moved[series("gpuctl_cache_hit_ratio")] == pytest.approx(3 / 7)
    assert moved[series("gpuctl_truncated_total")] == 1
    assert scraped(embedder)[series("gpuctl_queue_tokens")] == 0


def test_one_batch_of_a_reranker_moves_what_it_should_by_as_much_as_it_should(reranker: Running) -> None:
    reranker.service.load()
    before = scraped(reranker)
    body = {"query": "q", "texts": ["one", "two"]}
    answer = reranker.public.post("/rerank", json=body, headers={"cache-control": "no-store"})
    tokens, moved = int(answer.headers["x-compute-tokens"]), difference(before, scraped(reranker))
    assert_moved(
        moved,
        {
            **one_batch(rows=2),
            series("gpuctl_computed_tokens_total"): tokens,
            series("gpuctl_cache_bypassed_total"): 2,
            series("gpuctl_requests_total", route="/rerank", code="200"): 1,
            series("gpuctl_request_seconds_count", route="/rerank"): 1,
        },
        {
            *STAGE_SECONDS,
            series("gpuctl_request_seconds_sum", route="/rerank"),
            series("gpuctl_batch_tokens_sum"),
            series("gpuctl_padding_ratio_sum"),
        },
    )
    ratio = moved[series("gpuctl_padding_ratio_sum")]
    assert ratio == pytest.approx(moved[series("gpuctl_batch_tokens_sum")] / tokens)


def test_one_add_and_one_search_of_an_index_move_what_they_should(index: Running) -> None:
    index.service.load()
    base = SEARCH.removesuffix("/search")
    items = [{"id": str(n), "vector": [1.0, n, 0.0, 0.0]} for n in range(3)]
    before = scraped(index)
    assert index.public.post(f"{base}/add", json={"items": items}).status_code == 200
    moved = difference(before, scraped(index))
    assert moved[series("gpuctl_vector_items_written_total", op="added")] == 3
    assert moved[series("gpuctl_vector_log_sync_seconds_count")] >= 1
    assert moved[series("gpuctl_vector_log_sync_seconds_sum")] > 0
    assert moved[series("gpuctl_vector_index_bytes")] > 0
    for name, by in (("count", 3), ("sequence", 3), ("group_commits", 1)):
        assert moved[series(f"gpuctl_vector_{name}")] == by
    before = scraped(index)
    assert index.public.post(SEARCH, json={"vector": [1.0, 0.0, 0.0, 0.0], "k": 2}).status_code == 200
    assert_moved(
        difference(before, scraped(index)),
        {
            series("gpuctl_search_seconds_count", device="cpu"): 1,
            series("gpuctl_search_batch_size_count"): 1,
            series("gpuctl_search_batch_size_sum"): 1,
            series("gpuctl_requests_total", route=SEARCH, code="200"): 1,
            series("gpuctl_request_seconds_count", route=SEARCH): 1,
        },
        {
            series("gpuctl_search_seconds_sum", device="cpu"),
            series("gpuctl_request_seconds_sum", route=SEARCH),
        },
    )


class FaultyReplica:
    """In the place of a keeper of a GPU's copy."""

    def __init__(self) -> None:
        self.heard: Callable[[str], None] = lambda _reason: None

    def facts(self) -> dict[str, object]:
        return {"lag": 7, "device": "cuda", "namespaces": {"1": {}}, "failure": None}

    def told(self) -> Told:
        return Told("searching", "cuda").after(None)


def test_faults_of_the_gpus_copy_are_counted_by_reason_and_its_lag_is_told(index: Running) -> None:
    index.service.load()
    service, replica = index.service, FaultyReplica()
    assert isinstance(service, IndexService)
    service.core.replica = replica  # type: ignore[assignment]  # Only what metrics ask of it.
    service.metrics.watch(service.core)
    for reason in ("replica-hung", "replica-hung", "out-of-memory"):
        replica.heard(reason)
    found = scraped(index)
    counts = {
        reason: found[series("gpuctl_vector_replica_faults_total", reason=reason)]
        for reason in REPLICA_FAULTS
    }
    assert {reason: count for reason, count in counts.items() if count} == {
        "replica-hung": 2,
        "out-of-memory": 1,
    }
    assert found[series("gpuctl_vector_replica_lag")] == 7
    assert found[series("gpuctl_vector_replica_ready")] == 1
    assert found[series("gpuctl_vector_replica_state", state="searching")] == 1
    assert found[series("gpuctl_vector_replica_state", state="off")] == 0
    service.core.replica = None


@pytest.mark.parametrize("service", ["embedder", "index"])
def test_what_is_promised_is_a_boundary_of_requests_stages_and_searches(
    service: str, request: pytest.FixtureRequest
) -> None:
    running: Running = request.getfixturevalue(service)
    text = running.public.get("/metrics").text
    promised = set(re.findall(r'(gpuctl_\w+)_bucket\{[^}]*le="0\.123"', text))
    stages = {"gpuctl_tokenize_seconds", "gpuctl_queue_seconds", "gpuctl_inference_seconds"}
    assert promised == {"gpuctl_request_seconds"} | (
        stages if service == "embedder" else {"gpuctl_search_seconds"}
    )


def difference(before: dict[Series, float], after: dict[Series, float]) -> dict[Series, float]:
    """What moved, the scrapes themselves left out."""
    moved = {each: value - before[each] for each, value in after.items() if value != before[each]}
    return {each: by for each, by in moved.items() if ("route", "/metrics") not in each[1]}


def assert_moved(moved: dict[Series, float], by: dict[Series, float], somewhat: set[Series]) -> None:
    """Nothing else moved; what is a time, by more than nothing."""
    assert {each: value for each, value in moved.items() if each not in somewhat} == pytest.approx(by)
    assert all(moved.get(each, 0) > 0 for each in somewhat)
