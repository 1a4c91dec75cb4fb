"""What runs on the device itself, without a service: each in a child process that gives the device back."""

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.figures import timed
from gpuctl_serving.engines.protocol import Engine, EngineSpec, OutOfMemory, TokenBatch, Tokens
from gpuctl_serving.engines.select import make_engine
from gpuctl_serving.models.manifest import read_manifest
from gpuctl_serving.models.probing import unit
from gpuctl_serving.models.tokenizer import ModelTokenizer

Json = dict[str, Any]
#: Ids every tokenizer here has.
_FIRST_ID, _LAST_ID = 10, 1000
_MIB = 1024 * 1024


def open_engine(spec: Json, model: str) -> tuple[Engine, Json]:
    """Loads; returns the engine and what it says of itself."""
    engine = make_engine(EngineSpec(**spec))
    facts = engine.load(Path(model) / "model.onnx")
    return engine, {
        "engine": facts.name,
        "device": facts.device,
        "dtype": facts.dtype,
        "providers": list(facts.providers),
        "token_bytes": facts.token_bytes,
        "free_mib": facts.free_bytes // _MIB,
    }


def parity(spec: Json, model: str, reference: str) -> Json:
    """Against answers computed by sentence-transformers and PyTorch elsewhere."""
    engine, said = open_engine(spec, model)
    wanted = json.loads(Path(reference).read_text())
    tokenizer = ModelTokenizer(Path(model) / "tokenizer.json", read_manifest(Path(model)).max_tokens)
    if "items" in wanted:
        rows = tokenizer.texts([item["text"] for item in wanted["items"]])
        right = unit(np.array([item["embedding"] for item in wanted["items"]], np.float32))
        cosine = (unit(engine.infer(TokenBatch.of(rows, 0))) * right).sum(axis=1)
        return {
            **said,
            "texts": len(rows),
            "cosine_min": float(cosine.min()),
            "cosine_mean": float(cosine.mean()),
        }
    errors = []
    for case in wanted["cases"]:
        batch = TokenBatch.of(tokenizer.pairs(case["query"], case["documents"]), 0)
        errors += np.abs(engine.infer(batch) - np.array(case["logits"])).tolist()
    return {**said, "pairs": len(errors), "logit_error_max": max(errors)}


def throughput(spec: Json, model: str, cases: list[tuple[int, int]], seconds: float) -> Json:
    """Milliseconds a batch, tokens prepared beforehand."""
    engine, said = open_engine(spec, model)
    measured = []
    for texts, tokens in cases:
        batch = random_batch(texts, tokens)
        figures = timed(functools.partial(engine.infer, batch), seconds)
        rate = texts / figures.median_ms * 1000
        measured.append(
            {"texts": texts, "tokens": tokens, **figures.json(),
             "texts_per_second": round(rate, 1), "tokens_per_second": round(rate * tokens)}
        )  # fmt: skip
    return {**said, "cases": measured}


def plain_rate(spec: Json, model: str, query: str, groups: list[list[str]], seconds: float) -> Json:
    """Texts a second of a loop that tokenises a group and runs it, as a script would."""
    engine, said = open_engine(spec, model)
    tokenizer = ModelTokenizer(Path(model) / "tokenizer.json", read_manifest(Path(model)).max_tokens)

    def run(group: list[str]) -> None:
        rows = tokenizer.pairs(query, group) if query else tokenizer.texts(group)
        engine.infer(TokenBatch.of(rows, 0))

    run(groups[0])
    started, done, rounds = time.perf_counter(), 0, 0
    while (elapsed := time.perf_counter() - started) < seconds or rounds == 0:
        run(groups[rounds % len(groups)])
        done, rounds = done + len(groups[rounds % len(groups)]), rounds + 1
    return {**said, "texts_per_second": round(done / max(elapsed, 1e-9), 1), "rounds": rounds}


def ladder(spec: Json, model: str, headroom_mib: int, most_tokens: int) -> Json:
    """Doubles the batch until memory runs out, then asks the first question again."""
    engine, said = open_engine(spec, model)
    question = random_batch(4, 32)
    before, held = engine.infer(question), engine.memory()
    if spec["device"] == "cpu":
        _limit_own_memory(headroom_mib)
    rungs, tokens, raised = [], 4096, None
    while raised is None and tokens <= most_tokens:
        try:
            engine.infer(random_batch(tokens // 128, 128))
            rungs.append(tokens)
        except OutOfMemory as failure:
            raised = str(failure)
        tokens *= 2
    after = engine.infer(question)
    difference = float(np.abs(after - before).max())
    grown = max(0, engine.memory() - held) // _MIB
    return {
        **said, "passed_tokens": rungs, "out_of_memory_at": tokens // 2 if raised else None, "said": raised,
        "difference_after": difference, "memory_grown_mib": grown,
        "ok": raised is not None and difference < 1e-2,
    }  # fmt: skip


def random_batch(texts: int, tokens: int) -> TokenBatch:
    """Texts of one length."""
    chance = np.random.default_rng(texts * 100_003 + tokens)
    ids = chance.integers(_FIRST_ID, _LAST_ID, (texts, tokens)).astype(np.int32)
    return TokenBatch.of([Tokens(row, None, truncated=False) for row in ids], 0)


def _limit_own_memory(mib: int) -> None:
    """A CPU has no allocator limit of its own: the kernel refuses instead."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mib * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_ERRANDS: dict[str, Callable[..., Json]] = {
    "parity": parity,
    "throughput": throughput,
    "plain_rate": plain_rate,
    "ladder": ladder,
}

if __name__ == "__main__":
    errand, arguments = sys.argv[1], json.loads(sys.stdin.read())
    answer = _ERRANDS[errand](**arguments)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()
