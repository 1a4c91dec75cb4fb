"""What the embedder's HTTP adds to the bare ONNX Runtime session, as ratios of interleaved rounds.

    PYTHONPATH=compose/services/src python test/bench/serving_overhead.py --model <directory in the model store>

The server runs as a process of its own; client, server and the bare session share the same cores, in turns.
Figures of one machine mean nothing elsewhere; the ratios do. Targets: at 32 texts a request at least 0.75 of the
bare session's texts/s; one text on an idle server adds at most 2.5 ms at p50, worker process included.
"""

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import orjson
from tokenizers import Tokenizer

WORDS = (
    "release rollback deploy device model index vector search query document answer driver memory batch token "
    "latency server cluster backup restore health check gate proof network disk python engine thread queue"
).split()


def corpus(count: int, seed: int, shortest: int = 4, longest: int = 16) -> list[str]:
    """Distinct short texts: no cache and no coalescing can help."""
    words = random.Random(seed)  # noqa: S311 - a reproducible corpus, not a secret
    sizes = (words.randint(shortest, longest) for _ in range(count))
    return [f"{' '.join(words.choices(WORDS, k=size))} {number}" for number, size in enumerate(sizes)]


class Bare:
    """The session and the tokenizer alone, one padded batch a request, as a script would do it."""

    def __init__(self, model: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(model / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    def embed(self, texts: list[str]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([e.ids for e in encoded], np.int32)
        mask = np.array([e.attention_mask for e in encoded], np.int32)
        rows = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Client:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def embed(self, texts: list[str]) -> np.ndarray:
        body = orjson.dumps({"inputs": texts})
        self.connection.request("POST", "/embed", body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {data[:200]!r}")
        return np.array(orjson.loads(data), np.float32)


def start_server(model: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The embedder on a free port, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Without the cache of answers: rounds repeat their texts.
    given = {"MODEL_DIR": str(model), "HOST": "127.0.0.1", "PORT": str(port), "CACHE_ENTRIES": "0"}
    env = {**os.environ, **{f"GPUCTL_{name}": value for name, value in given.items()}}
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-m", "gpuctl_serving.embedder"], env=env, stdout=sink, stderr=sink
        )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return server, port
        except OSError:
            pass
        if server.poll() is not None:
            break
        time.sleep(0.1)
    server.kill()
    raise RuntimeError("the embedder did not become ready:\n" + log.read_text()[-2000:])


def rate_bare(bare: Bare, requests: list[list[str]]) -> float:
    started = time.perf_counter()
    for texts in requests:
        bare.embed(texts)
    return sum(map(len, requests)) / (time.perf_counter() - started)


def rate_http(port: int, requests: list[list[str]], clients: int) -> float:
    work = list(requests)
    lock = threading.Lock()

    def run() -> None:
        client = Client(port)
        while True:
            with lock:
                if not work:
                    return
                texts = work.pop()
            client.embed(texts)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(map(len, requests)) / (time.perf_counter() - started)


def latency(embed, texts: list[str]) -> float:
    """p50 of one text at a time, milliseconds."""
    samples = []
    for text in texts:
        started = time.perf_counter()
        embed([text])
        samples.append((time.perf_counter() - started) * 1000)
    return statistics.median(samples)


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the rounds."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=8, help="requests of 32 texts a round")
    parser.add_argument("--log", type=Path, default=Path("/dev/null"))
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    bare = Bare(options.model, threads)
    server, port = start_server(options.model, options.log)
    try:
        client = Client(port)
        sample = corpus(32, 0)
        worst = float(np.min(np.sum(bare.embed(sample) * client.embed(sample), axis=1)))
        assert worst > 0.9999, worst  # noqa: S101 - figures of a server that answers wrongly are worth nothing
        rounds = []
        for number in range(options.rounds):
            texts = corpus(options.requests * 32, number + 1)
            requests = [texts[i : i + 32] for i in range(0, len(texts), 32)]
            # Of one length, sorting saves the server no padding: what is left is what HTTP costs.
            alike = corpus(options.requests * 32, 500 + number, 10, 10)
            level = [alike[i : i + 32] for i in range(0, len(alike), 32)]
            ones = corpus(30, 1000 + number)
            row = {
                "bare": rate_bare(bare, requests),
                "http1": rate_http(port, requests, 1),
                "http4": rate_http(port, requests, 4),
                "bareAlike": rate_bare(bare, level),
                "httpAlike": rate_http(port, level, 4),
                "bareOneMs": latency(bare.embed, ones),
                "httpOneMs": latency(client.embed, ones),
            }
            rounds.append(row)
        series = {
            "bareTextsPerSecond": [r["bare"] for r in rounds],
            "ratioOneClient": [r["http1"] / r["bare"] for r in rounds],
            "ratioFourClients": [r["http4"] / r["bare"] for r in rounds],
            "ratioFourClientsEqualLengths": [r["httpAlike"] / r["bareAlike"] for r in rounds],
            "bareOneMs": [r["bareOneMs"] for r in rounds],
            "addedMsAtP50": [r["httpOneMs"] - r["bareOneMs"] for r in rounds],
        }
        result = {"rounds": len(rounds), **{name: spread(values) for name, values in series.items()}}
        print(json.dumps(result))
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main()
