"""How many items a second an index takes, each on disk before it is acknowledged."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.index import direct
from tests.index.instances import Instance, public_socket

from gpuctl_serving.index.store import NewItem

COUNT, DIMENSION, BATCH, RUNS = 20_000, 384, 1000, 3


def vectors() -> Any:
    """Random unit vectors."""
    rows = np.random.default_rng(5).standard_normal((COUNT, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_adds_in_batches_without_http(tmp_path: Path, figures: Callable[[str, Any], None]) -> None:
    rows, rates = vectors(), []
    for run in range(RUNS):
        core = direct.open_core(tmp_path / str(run), dimension=DIMENSION)
        items = [
            NewItem(f"doc{n}", f"text number {n} of some words", {"source": f"f{n % 100}.md"}, {"g": rows[n]})
            for n in range(COUNT)
        ]
        began = time.perf_counter()
        for start in range(0, COUNT, BATCH):
            direct.add(core, items[start : start + BATCH], upsert=False)
        rates.append(COUNT / (time.perf_counter() - began))
        direct.close(core)
    print(
        f"adds/s, batches of {BATCH} x {DIMENSION}, fsync always, no HTTP: {[round(rate) for rate in rates]}"
    )
    figures("index-adds-direct", {"perSecond": rates, "batch": BATCH, "dimension": DIMENSION, "n": COUNT})


def test_adds_in_batches_through_http(tmp_path: Path, figures: Callable[[str, Any], None]) -> None:
    rows = vectors()
    bodies = [
        {
            "items": [
                {
                    "id": f"doc{n}",
                    "text": f"text number {n} of some words",
                    "metadata": {"source": f"f{n % 100}.md"},
                    "vectorBase64": base64.b64encode(rows[n].tobytes()).decode(),
                }
                for n in range(start, start + BATCH)
            ]
        }
        for start in range(0, COUNT, BATCH)
    ]
    with public_socket() as listener:
        port = listener.getsockname()[1]
        instance = Instance(tmp_path, "index-a", listener, index_dimension=DIMENSION)
        try:
            instance.wait_ready()
            assert instance.control("accept")["ok"]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/vector-store", timeout=60) as client:
                began = time.perf_counter()
                for body in bodies:
                    assert client.post("/add", json=body).status_code == 200
                rate = COUNT / (time.perf_counter() - began)
        finally:
            instance.kill()
    print(f"adds/s, batches of {BATCH} x {DIMENSION} in base64, fsync always, through HTTP: {round(rate)}")
    figures("index-adds-http", {"perSecond": rate, "batch": BATCH, "dimension": DIMENSION, "n": COUNT})
