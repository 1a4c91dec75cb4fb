"""Several services on one Redis: they share what is the same, and nothing else."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gpuctl_serving.caches.entry import decode
from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.reranker.service import create_service as create_reranker
from tests.caches.resp_stub import RespStub
from tests.support.running import Running

Serve = Callable[[ServiceBase], Running]
TEXT = "a text that several services are asked for"


@pytest.fixture
def stub() -> Iterator[tuple[RespStub, str]]:
    with running_stub() as started:
        yield started


@contextmanager
def running_stub() -> Iterator[tuple[RespStub, str]]:
    """The stub on a loop of its own, in a thread."""
    loop, server = asyncio.new_event_loop(), RespStub()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    url = asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
    try:
        yield server, url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def env(model: Path, url: str, **more: str) -> dict[str, str]:
    # Patient: what is tested here is what is found, not how long a busy machine took to find it.
    given = {"model_dir": str(model), "redis_url": url, "redis_timeout_ms": "1000", **more}
    return {f"GPUCTL_{name.upper()}": value for name, value in given.items()}


def ask(running: Running, text: str = TEXT, headers: dict[str, str] | None = None) -> httpx.Response:
    answer = running.public.post("/embed", json={"inputs": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def connected(running: Running) -> Running:
    """Waits until it is connected: nothing is looked up or written before."""
    until(running, "gpuctl_cache_redis_up", 1, lambda: ask(running, "x", {"cache-control": "no-store"}))
    return running


def until(
    running: Running, series: str, least: float, meanwhile: Callable[[], object] = lambda: None
) -> None:
    end = time.monotonic() + 10
    while metric(running, series) < least:
        assert time.monotonic() < end, series
        meanwhile()
        time.sleep(0.01)


def metric(running: Running, series: str) -> float:
    for line in running.public.get("/metrics").text.splitlines():
        if line.startswith(series + " "):
            return float(line.split()[-1])
    raise AssertionError(f"no {series}")


def held(stub: RespStub, least: int) -> None:
    """Waits until so many values were written."""
    end = time.monotonic() + 10
    while len(stub.held) < least:
        assert time.monotonic() < end
        time.sleep(0.005)


def changed(model: Path, to: Path, **change: object) -> Path:
    """A copy of a model whose manifest says something else."""
    shutil.copytree(model, to)
    manifest = json.loads((to / "manifest.json").read_text())
    (to / "manifest.json").write_text(json.dumps({**manifest, **change}))
    return to


def test_another_instance_of_the_same_model_finds_the_answer_and_a_bi_encoder_reranker_too(
    stub: tuple[RespStub, str], tiny: dict[str, Path], serve: Serve
) -> None:
    server, url = stub
    model = tiny["tiny-xlmr-embedder"]
    first = connected(serve(create_embedder(env(model, url))))
    wanted = ask(first)
    held(server, 1)
    second = connected(serve(create_embedder(env(model, url))))
    found = ask(second)
    assert (found.headers["x-gpuctl-cache"], found.headers["x-compute-tokens"]) == ("1/1", "0")
    assert found.json() == wanted.json()
    assert metric(second, 'gpuctl_cache_hits_total{level="redis"}') >= 1
    reranker = serve(create_reranker(env(model, url)))
    until(
        reranker,
        "gpuctl_cache_redis_up",
        1,
        lambda: reranker.public.post("/rerank", json={"query": "x", "texts": ["y"]}),  # Written or not.
    )
    ranked = reranker.public.post("/rerank", json={"query": TEXT, "texts": ["new"]})
    assert ranked.headers["x-gpuctl-cache"] == "1/2"


def test_another_revision_or_other_files_under_the_same_name_never_find_the_old_answer(
    stub: tuple[RespStub, str], tiny: dict[str, Path], serve: Serve, tmp_path: Path
) -> None:
    server, url = stub
    old = tiny["tiny-xlmr-embedder"]
    before = connected(serve(create_embedder(env(old, url))))
    ask(before)
    held(server, 1)
    newer = changed(old, tmp_path / "newer", revision="r2")
    assert ask(connected(serve(create_embedder(env(newer, url))))).headers["x-gpuctl-cache"] == "0/1"
    shorter = connected(serve(create_embedder(env(old, url, max_tokens="32"))))
    assert ask(shorter).headers["x-gpuctl-cache"] == "0/1"
    again = connected(serve(create_embedder(env(old, url))))
    assert ask(again).headers["x-gpuctl-cache"] == "1/1"


def whole(server: RespStub, width: int) -> bool:
    values = server.held.items()
    return all(decode(key.removeprefix(b"gpuctl:answer:"), value, width) is not None for key, value in values)


def test_torn_and_foreign_values_are_misses_and_are_written_anew(
    stub: tuple[RespStub, str], tiny: dict[str, Path], serve: Serve
) -> None:
    server, url = stub
    model = tiny["tiny-xlmr-embedder"]
    first = connected(serve(create_embedder(env(model, url))))
    wanted = ask(first).json()
    ask(first, "another text")
    held(server, 2)
    right = dict(server.held)
    for damage in (lambda v: v[:-1], lambda v: b"", lambda v: b"\0" * len(v), lambda v: v[:-1] + b"\xff"):
        server.held = {key: damage(value) for key, value in right.items()}
        service = connected(serve(create_embedder(env(model, url))))
        answer = ask(service)
        assert (answer.headers["x-gpuctl-cache"], answer.json()) == ("0/1", wanted)
        ask(service, "another text")
        assert metric(service, 'gpuctl_cache_redis_errors_total{kind="bad-value"}') == 2
        end = time.monotonic() + 10
        while not whole(server, len(wanted[0])):
            assert time.monotonic() < end
            time.sleep(0.005)
    # Values of other keys are whole, and still not the answer to this question.
    server.held = dict(zip(right, reversed([*right.values()]), strict=True))
    assert ask(connected(serve(create_embedder(env(model, url))))).json() == wanted


def test_a_redis_that_dies_under_load_fails_no_request(
    stub: tuple[RespStub, str], tiny: dict[str, Path], serve: Serve
) -> None:
    server, url = stub
    running = connected(serve(create_embedder(env(tiny["tiny-xlmr-embedder"], url, redis_timeout_ms="5"))))
    for n in range(60):
        server.mood = ("well", "cut", "garbage", "silent", "torn-bulk", "error")[n // 10]
        assert ask(running, f"text {n}").headers["x-gpuctl-cache"] == "0/1"
    assert metric(running, 'gpuctl_cache_redis_errors_total{kind="connection"}') >= 1


def test_the_password_comes_from_the_secrets_file(
    stub: tuple[RespStub, str], tiny: dict[str, Path], serve: Serve, tmp_path: Path
) -> None:
    server, url = stub
    (tmp_path / "REDIS_PASSWORD").write_text("hunter2\n")
    connected(serve(create_embedder(env(tiny["tiny-xlmr-embedder"], url, secrets_dir=str(tmp_path)))))
    assert [b"AUTH", b"hunter2"] in server.commands
