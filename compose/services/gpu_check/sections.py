"""The parts of the check. Each returns what it measured; a `verdict` of False fails the whole."""

import itertools
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check import child, machine
from gpu_check.plan import Plan
from gpu_check.served import Load, Served, kill, serve
from gpu_check.shapes import TINY

Json = dict[str, Any]

_WORDS = (
    *("release", "rollback", "deploy", "device", "model", "index", "vector", "search", "query", "document"),
    *("answer", "driver", "memory", "batch", "token", "latency", "server", "cluster", "backup", "restore"),
    *("health", "check", "gate", "proof", "network", "disk", "python", "engine", "thread", "queue"),
)
#: A vector in half precision against one in full, whoever answered.
_SAME = 0.999
#: Memory of a card that may stay after everything ended: NVML's figures move by a few MiB by themselves.
_VRAM_SLACK_MIB = 32
#: Requests a rate is made of at least.
_LEAST_ANSWERS = 8


class WrongAnswer(Exception):
    """A service did not answer as it must for a figure to mean anything."""


@dataclass(frozen=True)
class Subjects:
    """What is measured, and how the engine under test is made."""

    spec: Json
    #: Name -> directory in the store.
    models: dict[str, Path]
    #: Names in `models`.
    minilm: str
    embedder: str
    reranker: str
    golden: Path
    plan: Plan

    @property
    def settings(self) -> dict[str, str]:
        """The same engine for a service."""
        names = {"GPUCTL_DEVICE": "device", "GPUCTL_ENGINE": "name", "GPUCTL_DTYPE": "dtype"}
        return {variable: str(self.spec[key]) for variable, key in names.items()}


def parity(on: Subjects) -> Json:
    """Answers against the goldens."""
    half = on.spec["dtype"] == "float16"
    cases = {}
    for name in (on.minilm, *TINY):
        file = "minilm-reference.json" if name == on.minilm else f"models/{name}/reference.json"
        if name == on.minilm and name != "minilm":
            cases[name] = {
                "not_run": "no real all-MiniLM-L6-v2 on this machine: name one with --minilm DIRECTORY"
            }
            continue
        cases[name] = found = child.run(
            "parity", spec=on.spec, model=str(on.models[name]), reference=str(on.golden / file)
        )
        least, most = (0.9999, 3e-2) if half else (0.99999, 1e-3)
        found["verdict"] = found.get("cosine_min", 1.0) >= least and found.get("logit_error_max", 0.0) <= most
    return cases


def throughput(on: Subjects) -> Json:
    """Batches of one length on the bare engine."""
    plan = on.plan
    texts = [[batch, tokens] for tokens in plan.tokens for batch in plan.batches]
    pairs = [[count, tokens] for tokens in plan.pair_tokens for count in plan.candidates]
    wanted = {on.minilm: texts, on.embedder: texts, on.reranker: pairs}
    return {
        name: child.run(
            "throughput", spec=on.spec, model=str(on.models[name]), cases=cases, seconds=plan.seconds
        )
        for name, cases in wanted.items()
    }


def share(on: Subjects) -> Json:
    """Texts a second through HTTP by those of a bare loop, in turns."""
    return {
        on.minilm: _share(on, on.minilm, "embedder"),
        on.embedder: _share(on, on.embedder, "embedder"),
        on.reranker: _share(on, on.reranker, "reranker"),
    }


def _share(on: Subjects, name: str, service: str) -> Json:
    seconds, query = on.plan.round_seconds, "which release answers?" if service == "reranker" else ""
    groups = [texts(32 if service == "embedder" else 50, seed) for seed in range(40)]
    raw, through = [], []
    for turn in range(on.plan.rounds):
        answer = child.run(
            "plain_rate",
            spec=on.spec,
            model=str(on.models[name]),
            query=query,
            groups=groups,
            seconds=seconds,
        )
        raw.append(answer["texts_per_second"])
        # The other engine's load would take part in the measurement.
        with serve(service, on.models[name], {**on.settings, "GPUCTL_FALLBACK_LOAD": "lazy"}) as served:
            through.append(_http_rate(served, on.spec["device"], query, turn, len(groups[0]), seconds))
    shares = [one / other for one, other in zip(through, raw, strict=True)]
    return {
        "n": len(shares), "texts_a_request": len(groups[0]), "concurrency": 4,
        "raw_texts_per_second": raw, "http_texts_per_second": through,
        "share_median": round(statistics.median(shares), 3),
        "share_spread": [round(min(shares), 3), round(max(shares), 3)],
    }  # fmt: skip


def _http_rate(served: Served, device: str, query: str, turn: int, size: int, seconds: float) -> float:
    def ask(number: int) -> tuple[int, str, bool]:
        group = texts(size, 1_000_000 * (turn + 1) + number)
        path, body = ("/rerank", {"query": query, "texts": group}) if query else ("/embed", {"inputs": group})
        status, _, headers = served.ask("POST", path, body)
        answered_by = headers.get("x-gpuctl-device", "")
        if status != 200 or answered_by != device:
            raise WrongAnswer(f"{path} answered {status} on {answered_by or 'nothing'}, not 200 on {device}")
        return status, answered_by, True

    ask(-1)
    with Load(ask, threads=4) as load:
        started = time.monotonic()
        while time.monotonic() - started < seconds or len(load.answers) < _LEAST_ANSWERS:
            if load.failure is not None:
                raise load.failure
            time.sleep(0.01)
        done = [at for at, _, _, right in load.answers if right]
    return round(len(done) * size / (max(done, default=float("inf")) - started), 1)


def ladder(on: Subjects) -> Json:
    """Memory runs out on purpose: the engine says so, and answers as before afterwards."""
    spec = dict(on.spec)
    if spec["device"] != "cpu":
        spec["memory_mib"] = _weights_mib(on.models[on.minilm]) + 1024
    found = child.run(
        "ladder", spec=spec, model=str(on.models[on.minilm]), headroom_mib=512,
        most_tokens=on.plan.ladder_most_tokens,
    )  # fmt: skip
    found["verdict"] = found.pop("ok")
    if spec["device"] == "cuda":
        found["served"] = _ladder_served(on, spec["memory_mib"])
    return found


def _ladder_served(on: Subjects, memory_mib: int) -> Json:
    """The same through a service that is told to try batches far too large for its memory."""
    settings = {**on.settings, "GPUCTL_VRAM_MIB": str(memory_mib), "GPUCTL_MAX_BATCH_TOKENS": "10000000"}
    with serve("embedder", on.models[on.minilm], settings) as served:
        group = [" ".join([text] * 8) for text in texts(1024, 5)]
        answered = [served.ask("POST", "/embed", {"inputs": group}) for _ in range(5)]
        metrics = str(served.ask("GET", "/metrics")[1]).splitlines()
        health = served.health()
    ran_out = [line.rpartition(" ")[2] for line in metrics if line.startswith("gpuctl_out_of_memory_total")]
    devices = sorted({headers.get("x-gpuctl-device", "") for _, _, headers in answered})
    return {
        "statuses": [status for status, _, _ in answered],
        "devices": devices,
        "batches_that_did_not_fit": float(ran_out[0]) if ran_out else None,
        "health_after": {"status": health.get("status"), "device": health.get("device")},
        "verdict": all(status == 200 for status, _, _ in answered) and devices == [on.spec["device"]],
    }


def kill_and_fall_back(on: Subjects) -> Json:
    """The engine's process is killed under load: every request is answered, rightly, and it comes back."""
    question = "What is the capital of France?"
    with serve("embedder", on.models[on.minilm], on.settings) as served:
        status, right, _ = served.ask("POST", "/embed", {"inputs": question})
        if status != 200:
            raise WrongAnswer(f"/embed answered {status}: {right}")
        reference = np.array(right[0])

        def ask(number: int) -> tuple[int, str, bool]:
            status, answer, headers = served.ask("POST", "/embed", {"inputs": [question, *texts(3, number)]})
            same = status == 200 and float(np.array(answer[0]) @ reference) >= _SAME
            return status, headers.get("x-gpuctl-device", ""), same

        with Load(ask, threads=4) as load:
            time.sleep(on.plan.kill_seconds)
            worker = served.worker(on.spec["name"])
            if worker is None:
                return {"verdict": False, "because": "the engine has no process of its own"}
            killed_at = time.monotonic()
            kill(worker)
            seen = list(_phases_until_healthy(served, on.spec["device"], 180))
            time.sleep(on.plan.kill_seconds)
        return _account(load, on.spec["device"], killed_at, seen)


def _phases_until_healthy(served: Served, device: str, seconds: float) -> Iterator[Json]:
    """Every change of `/health`, until the device answers again."""
    started, last, changed = time.monotonic(), None, False
    while time.monotonic() - started < seconds:
        health = served.health()
        now = (health.get("status"), health.get("device"))
        if now != last:
            last, changed = now, changed or now != ("healthy", device)
            yield {"after_seconds": round(time.monotonic() - started, 2), "status": now[0], "device": now[1]}
        if now == ("healthy", device) and (changed or time.monotonic() - started > 5):
            return
        time.sleep(0.02)


def _account(load: Load, device: str, killed_at: float, phases: list[Json]) -> Json:
    answers = sorted(load.answers)
    times = [answer[0] for answer in answers]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    devices: dict[str, int] = {}
    for _, status, answered_by, _ in answers:
        if status == 200:
            devices[answered_by] = devices.get(answered_by, 0) + 1
    failed = [status for _, status, _, _ in answers if status != 200]
    wrong = sum(status == 200 and not right for _, status, _, right in answers)
    after = sum(at > killed_at for at in times)
    last = phases[-1] if phases else {}
    came_back = (last.get("status"), last.get("device")) == ("healthy", device)
    # On a CPU nothing stands in: requests wait for the restart.
    fell_back = device == "cpu" or devices.get("cpu", 0) > 0
    return {
        "n": len(answers), "after_the_kill": after, "came_back": came_back, "fell_back": fell_back,
        "failed": len(failed), "failed_statuses": sorted(set(failed)),
        "wrong": wrong, "answers_by_device": devices, "longest_gap_seconds": round(max(gaps, default=0.0), 3),
        "phases": phases,
        "verdict": wrong == 0 and not failed and after > 0 and came_back and fell_back,
    }  # fmt: skip


def memory_return(on: Subjects) -> Json:
    """The card's memory before a service, while it serves, and after it was stopped."""
    before = machine.used_mib()
    if before is None or on.spec["device"] == "cpu":
        return {"not_run": "the engine under test does not use a GPU"}
    with serve("embedder", on.models[on.minilm], on.settings) as served:
        served.ask("POST", "/embed", {"inputs": texts(256, 1)})
        serving = machine.used_mib() or 0.0
    until = time.monotonic() + 15
    while (after := machine.used_mib() or 0.0) > before + _VRAM_SLACK_MIB and time.monotonic() < until:
        time.sleep(0.2)
    held = serving > before + _VRAM_SLACK_MIB
    return {
        "before_mib": before, "serving_mib": serving, "after_mib": after,
        "verdict": held and after <= before + _VRAM_SLACK_MIB,
    }  # fmt: skip


def texts(count: int, seed: int) -> list[str]:
    """Distinct texts of mixed lengths, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    sizes = [chance.choice((6, 12, 24, 48, 96)) for _ in range(count)]
    return [
        f"{' '.join(chance.choices(_WORDS, k=size))} {seed}-{number}" for number, size in enumerate(sizes)
    ]


def _weights_mib(model: Path) -> int:
    return sum(file.stat().st_size for file in model.glob("model.onnx*")) // (1024 * 1024)
