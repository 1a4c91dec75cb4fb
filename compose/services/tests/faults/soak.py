"""A service under load while its engines meet every fault at random, and what must hold of every answer."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from tests.faults.moods import Moods, put
from tests.faults.package import faulty_package
from tests.worker.services import ServiceProcess, running

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import TokenBatch
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.tokenizer import ModelTokenizer

DEADLINE_MS = 10_000
#: A service under test is given this much more than its deadline before a request counts as lost.
_GRACE_SECONDS = 3.0

_WORDS = ("the", "of", "index", "gpu", "release", "rollback", "query", "vector", "batch", "memory", "token")


@dataclass
class Tally:
    """What clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    #: Full sentences about answers that must not be.
    wrong: list[str] = field(default_factory=list)
    #: Of the canaries and batches of the services that were answered.
    devices: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


class Right:
    """Texts and the vectors they have, computed by an engine of this process."""

    def __init__(self, model: Path, count: int) -> None:
        dice = random.Random(7)  # noqa: S311 - not for secrets
        self.texts = [
            f"{number} " + " ".join(dice.choices(_WORDS, k=dice.randint(1, 60))) for number in range(count)
        ]
        manifest = read_manifest(model)
        tokenizer = ModelTokenizer(model / "tokenizer.json", manifest.max_tokens)
        engine = OnnxCpuEngine(2)
        engine.load(model / "model.onnx")
        rows = [
            engine.infer(TokenBatch.of(tokenizer.texts([text]), tokenizer.pad_id(0))) for text in self.texts
        ]
        self.vectors: NDArray[np.float32] = unit(np.concatenate(rows))


class Clients:
    """Threads that ask without pause and judge every answer."""

    def __init__(self, service: ServiceProcess, right: Right, count: int) -> None:
        self._service, self._right = service, right
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.tally = Tally()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"client-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """Ends every client after its present request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_MS / 1000 + 2 * _GRACE_SECONDS)
            if thread.is_alive():
                self.tally.wrong.append(f"{thread.name} still waits for an answer")
        return self.tally

    def _run(self, number: int) -> None:
        dice = random.Random(number)  # noqa: S311 - not for secrets
        while not self._stop.is_set():
            chosen = dice.sample(range(len(self._right.texts)), dice.choice((1, 1, 2, 8)))
            started = time.monotonic()
            try:
                status, headers, body = self._ask([self._right.texts[index] for index in chosen])
            except (OSError, http.client.HTTPException) as lost:
                self._record(0, "", f"lost after {time.monotonic() - started:.2f} s: {lost!r}", started)
                continue
            device = headers.get("x-gpuctl-device", "")
            self._record(status, device, self._judge(chosen, status, headers, body), started)
            if status != 200:
                time.sleep(0.05)

    def _ask(self, texts: Sequence[str]) -> tuple[int, dict[str, str], bytes]:
        answered = self._service.ask(
            "POST", "/embed", {"inputs": texts}, timeout=DEADLINE_MS / 1000 + _GRACE_SECONDS
        )
        return answered.status, {k.lower(): v for k, v in answered.headers.items()}, answered.body

    def _judge(self, chosen: Sequence[int], status: int, headers: dict[str, str], body: bytes) -> str | None:
        if status == 200:
            rows = np.asarray(orjson.loads(body), np.float32)
            wanted = self._right.vectors[[*chosen]]
            if rows.shape == wanted.shape and np.abs(rows - wanted).max() < 1e-4:
                return None
            return f"a 200 with wrong vectors of shape {rows.shape} by {headers.get('x-gpuctl-device')}"
        if status == 504:
            return None
        if status in (429, 503):
            return None if "retry-after" in headers else f"{status} without Retry-After: {body[:200]!r}"
        return f"status {status}: {body[:200]!r}"

    def _record(self, status: int, device: str, wrong: str | None, started: float) -> None:
        took = time.monotonic() - started
        with self._lock:
            self.tally.statuses[status] += 1
            self.tally.devices[device] += status == 200
            self.tally.slowest = max(self.tally.slowest, took)
            if wrong is not None:
                self.tally.wrong.append(wrong)


@dataclass(frozen=True)
class Held:
    """What a front holds."""

    rss_mib: float
    descriptors: int
    threads: int
    workers: int

    @classmethod
    def by(cls, service: ServiceProcess) -> "Held":
        """Now."""
        proc = Path(f"/proc/{service.pid}")
        lines = (proc / "status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        return cls(
            rss_mib=int(status["VmRSS"][0]) / 1024,
            descriptors=sum(1 for _ in (proc / "fd").iterdir()),
            threads=int(status["Threads"][0]),
            workers=len(service.workers()),
        )


#: The same state machine in a hurry: with the real durations two minutes would see few ways back.
PATIENCE = {
    "settle": 0.3,
    "prove_every": 0.1,
    "recheck_every": 2.0,
    "start_limit": 4.0,
    "prove_limit": 3.0,
    "backoff": 0.1,
    "backoff_cap": 1.0,
    "stumble_window": 5.0,
}


@dataclass(frozen=True)
class Soaked:
    """What came of it."""

    tally: Tally
    #: What the front held before the faults and after them.
    before: Held
    after: Held
    metrics: str

    def value(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = [line for line in self.metrics.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        if not lines:
            raise KeyError(name)
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def check(self) -> None:
        """What holds whatever the faults were."""
        before, after = self.before, self.after
        assert self.tally.wrong == []
        assert self.tally.slowest < DEADLINE_MS / 1000 + _GRACE_SECONDS
        assert after.workers == 2
        assert after.descriptors <= before.descriptors
        assert after.threads <= before.threads + 2
        assert after.rss_mib < before.rss_mib + 24


def soak(model: Path, scratch: Path, *, seconds: float, seed: int, cpu_too: bool) -> Soaked:
    """A service whose stub GPU, and with `cpu_too` its CPU engine, meets every fault, then none any more."""
    code = faulty_package(scratch / "code", gpu=True, patience=PATIENCE)
    files = {"torch-cuda": scratch / "cuda.fault", "onnxruntime-cpu": scratch / "cpu.fault"}
    for file in files.values():
        put(file, "")
    moods = Moods(files if cpu_too else {"torch-cuda": files["torch-cuda"]}, seed)
    right = Right(model, 300)
    with running(
        "embedder",
        model,
        scratch / "log",
        code=code,
        FAULTY_CUDA=f"@{files['torch-cuda']}",
        FAULTY_ENGINE=f"@{files['onnxruntime-cpu']}",
        GPUCTL_DEADLINE_MS=str(DEADLINE_MS),
        GPUCTL_HANG_MS="1000",
        GPUCTL_THREADS="1",
        GPUCTL_CACHE_ENTRIES="0",
    ) as service:
        on_gpu(service)
        clients = Clients(service, right, 6)
        clients.start()
        time.sleep(min(3.0, seconds / 4))
        before = Held.by(service)
        moods.reign(service, seconds)
        time.sleep(0.5)
        tally = clients.stop()
        on_gpu(service)
        after = settled(service, before)
        metrics = service.ask("GET", "/metrics").body.decode()
    return Soaked(tally, before, after, metrics)


def on_gpu(service: ServiceProcess) -> None:
    """Waits until the service says that all is well again."""
    end = time.monotonic() + 30
    while True:
        health = service.until("/health").json
        assert isinstance(health, dict)
        if (health["status"], health["device"]) == ("healthy", "cuda"):
            return
        assert time.monotonic() < end, health
        time.sleep(0.1)


def settled(service: ServiceProcess, before: Held) -> Held:
    """What it holds once the clients' connections and the last ended workers are gone."""
    end = time.monotonic() + 10
    while True:
        now = Held.by(service)
        if (now.descriptors <= before.descriptors and now.workers <= 2) or time.monotonic() > end:
            return now
        time.sleep(0.1)
