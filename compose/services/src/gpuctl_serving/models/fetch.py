"""Fetching a model: obtain, build, prove, record, install. Nothing half-done is ever left in the store."""

import errno
import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.engines.onnx_cpu import OnnxCpuEngine
from gpuctl_serving.engines.protocol import EngineBroken
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.models.build import Built, build
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import (
    SCHEMA_VERSION,
    FileEntry,
    Kind,
    Manifest,
    Parity,
    Probes,
    generation,
    sha256_file,
)
from gpuctl_serving.models.probing import judge, record, reference_for, tokens_of
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.prompts import passage_prompt
from gpuctl_serving.models.quantize import quantize
from gpuctl_serving.models.source_folder import PAIR_TOKENS, SourceFolder
from gpuctl_serving.models.sources import Obtained, copy_with_progress, obtain
from gpuctl_serving.models.spec import Spec
from gpuctl_serving.models.store import ModelStore, StoredModel
from gpuctl_serving.models.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class _Proved:
    """What running the finished graph showed."""

    probes: Probes
    dimension: int | None
    parity: Parity | None


async def fetch(spec: Spec, store: ModelStore, progress: Progress) -> StoredModel:
    """Fetches one model into the store; returns it, also when it was there already."""
    try:
        with store.staging() as work:
            async with obtain(spec, work, store.root, progress) as got:
                got.folder.check()
                out = work / "model"
                out.mkdir()
                return store.install(out, _prepare(spec, got, out, progress))
    except OSError as failure:
        full = failure.errno in {errno.ENOSPC, errno.EDQUOT}
        raise ModelProblem(
            "the model cannot be stored",
            "the disk is full" if full else str(failure),
            "free some space and run it again" if full else "check the store's folder and run it again",
        ) from failure


def _prepare(spec: Spec, got: Obtained, out: Path, progress: Progress) -> Manifest:
    built = build(spec, got.folder, out, progress)
    for name in ("tokenizer.json", "config.json"):
        copy_with_progress(got.folder.path / name, out / name, progress)
    max_tokens = _max_tokens(spec, got.folder, built.kind)
    parity = None
    if spec.dtype == "int8":
        built, parity = quantize(got.id, built, out, max_tokens, progress)
    proved = _prove(spec, built, out, max_tokens, parity, progress)
    return _manifest(spec, got, built, out, max_tokens, proved)


def _manifest(
    spec: Spec, got: Obtained, built: Built, out: Path, max_tokens: int, proved: _Proved
) -> Manifest:
    embedder = built.kind == "embedder"
    normalize = got.folder.normalizes() if spec.normalize is None else spec.normalize
    prompts = (got.folder.prompts() if spec.prompts is None else spec.prompts) if embedder else {}
    # INT8 passed the gate: its vectors are of the same space, and an index may hold both.
    plain = _revision(spec, got, built, dtype=False)
    before = passage_prompt(prompts, spec.prefix)
    pooling, dimension = built.pooling or "own", proved.dimension or 0
    return Manifest(
        schema_version=SCHEMA_VERSION,
        id=got.id,
        revision=_revision(spec, got, built, dtype=True),
        kind=built.kind,
        source=got.origin,
        licence=spec.licence or got.folder.licence() or got.licence or "unknown",
        pooling=built.pooling if embedder else None,
        normalize=normalize and embedder,
        prefix=spec.prefix if embedder else "",
        dimension=proved.dimension,
        max_tokens=max_tokens,
        generation=generation(got.id, plain, pooling, normalize, before, dimension) if embedder else None,
        files={name: _entry(out / name) for name in (*built.files, "tokenizer.json", "config.json")},
        probes=proved.probes,
        prompts=prompts,
        dtype=spec.dtype,
        parity=proved.parity,
    )


def _revision(spec: Spec, got: Obtained, built: Built, *, dtype: bool) -> str:
    """The source's own revision, or its weights' hash; options that change the model are part of it.

    A directory of the store never changes, so the same weights used differently need another one.
    """
    base = got.revision or "-".join(filter(None, (got.version, built.weights[:12])))
    said_tokens = _max_tokens(None, got.folder, built.kind)
    chosen = {
        "pooling": spec.pooling if spec.pooling != got.folder.pooling() else None,
        "maxTokens": spec.max_tokens if spec.max_tokens != said_tokens else None,
        "normalize": spec.normalize if spec.normalize != got.folder.normalizes() else None,
        "prefix": spec.prefix or None,
        "prompts": spec.prompts if spec.prompts != got.folder.prompts() else None,
        "dtype": spec.dtype if dtype and spec.dtype != "float32" else None,
    }
    said = json.dumps({name: value for name, value in chosen.items() if value is not None}, sort_keys=True)
    return base if said == "{}" else f"{base}-{hashlib.sha256(said.encode()).hexdigest()[:6]}"


def _max_tokens(spec: Spec | None, folder: SourceFolder, kind: Kind) -> int:
    """The spec's, never above what the positions allow; else the authors', for pairs at most 512."""
    config = folder.config
    offset = int(config.get("pad_token_id") or 0) + 1 if "roberta" in str(config.get("model_type")) else 0
    most = int(config.get("max_position_embeddings", 512)) - offset
    if spec is not None and spec.max_tokens is not None:
        if spec.max_tokens > most:
            raise ModelProblem(f"maxTokens is {spec.max_tokens}", f"the model has {most} positions")
        return spec.max_tokens
    return min(most, PAIR_TOKENS) if kind == "cross-encoder" else folder.text_tokens(most)


def _prove(
    spec: Spec, built: Built, out: Path, max_tokens: int, parity: Parity | None, progress: Progress
) -> _Proved:
    """Loads what was built and compares it with its reference, or records its answers."""
    tokenizer = ModelTokenizer(out / "tokenizer.json", max_tokens)
    pad = tokenizer.pad_id(int(json.loads((out / "config.json").read_text()).get("pad_token_id") or 0))
    with closing(OnnxCpuEngine(thread_count())) as engine:
        try:
            engine.load(out / "model.onnx")
        except EngineBroken as broken:
            raise ModelProblem("the model does not load", str(broken)) from broken
        original = spec.pooling in (None, "mean") and parity is None
        probes = reference_for(built.weights) if original else None
        if probes is None:
            probes = record(engine, tokenizer, pad, built.kind)
        for number, probe in enumerate(probes.items):
            verdict = judge(probe, engine.infer(tokens_of(probe, tokenizer)))
            if not verdict.ok:
                raise ModelProblem("the model gives wrong answers here", verdict.detail, "run gpuctl doctor")
            progress.amount("prove", number + 1, len(probes.items), "probes")
    first = probes.items[0].vector
    return _Proved(probes, len(first) if first is not None else None, parity)


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256_file(path), path.stat().st_size)
