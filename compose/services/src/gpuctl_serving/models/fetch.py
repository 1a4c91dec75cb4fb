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
from gpuctl_serving.models import heads
from gpuctl_serving.models.adopt_onnx import adopt
from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.graph import EXTERNAL_ABOVE, beside_of, save_model
from gpuctl_serving.models.heads import Pooling
from gpuctl_serving.models.manifest import (
    SCHEMA_VERSION,
    FileEntry,
    Kind,
    Manifest,
    Probes,
    generation,
    sha256_file,
)
from gpuctl_serving.models.probing import judge, record, reference_for, tokens_of
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.safetensors import Weights
from gpuctl_serving.models.source_folder import PAIR_TOKENS, SourceFolder
from gpuctl_serving.models.sources import Obtained, copy_with_progress, obtain
from gpuctl_serving.models.spec import Spec
from gpuctl_serving.models.store import ModelStore, StoredModel
from gpuctl_serving.models.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class _Built:
    """A graph on disk and what it turned out to be."""

    kind: Kind
    pooling: Pooling | None
    #: Files the graph takes, in the output folder.
    files: list[str]
    #: Hash of the weights as the authors ship them.
    weights: str


async def fetch(spec: Spec, store: ModelStore, progress: Progress) -> StoredModel:
    """Fetches one model into the store; returns it, also when it was there already."""
    try:
        with store.staging() as work:
            got = await obtain(spec, work, progress)
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
    built = _build(spec, got.folder, out, progress)
    for name in ("tokenizer.json", "config.json"):
        copy_with_progress(got.folder.path / name, out / name, progress)
    revision = _revision(spec, got, built)
    max_tokens = _max_tokens(spec, got.folder, built.kind)
    probes, dimension = _prove(spec, built, out, max_tokens, progress)
    embedder = built.kind == "embedder"
    normalize = got.folder.normalizes() if spec.normalize is None else spec.normalize
    space = (
        generation(got.id, revision, built.pooling or "own", normalize, spec.prefix, dimension or 0)
        if embedder
        else None
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        id=got.id,
        revision=revision,
        kind=built.kind,
        source=got.origin,
        licence=spec.licence or got.folder.licence() or got.licence or "unknown",
        pooling=built.pooling if embedder else None,
        normalize=normalize and embedder,
        prefix=spec.prefix if embedder else "",
        dimension=dimension,
        max_tokens=max_tokens,
        generation=space,
        files={name: _entry(out / name) for name in (*built.files, "tokenizer.json", "config.json")},
        probes=probes,
        prompts=got.folder.prompts() if embedder else {},
    )


def _revision(spec: Spec, got: Obtained, built: _Built) -> str:
    """The source's own revision, or its weights' hash; options that change the model are part of it.

    A directory of the store never changes, so the same weights used differently need another one.
    """
    base = got.revision or "-".join(filter(None, (got.version, built.weights[:12])))
    chosen = {
        "pooling": spec.pooling if spec.pooling != got.folder.pooling() else None,
        "maxTokens": spec.max_tokens,
        "normalize": spec.normalize,
        "prefix": spec.prefix or None,
    }
    said = json.dumps({name: value for name, value in chosen.items() if value is not None}, sort_keys=True)
    return base if said == "{}" else f"{base}-{hashlib.sha256(said.encode()).hexdigest()[:6]}"


def _build(spec: Spec, folder: SourceFolder, out: Path, progress: Progress) -> _Built:
    progress.emit({"event": "progress", "label": "build", "done": 0, "total": 1, "unit": "graph"})
    if folder.safetensors is not None:
        built = _from_safetensors(spec, folder, folder.safetensors, out)
    else:
        built = _from_onnx(spec, folder, out)
    progress.amount("build", 1, 1, "graph")
    return built


def _from_safetensors(spec: Spec, folder: SourceFolder, file: Path, out: Path) -> _Built:
    weights, arch = Weights(file), Architecture.from_config(folder.config)
    pooling = spec.pooling or folder.pooling()
    target = out / "model.onnx"
    beside = beside_of(target) if weights.float32_bytes > EXTERNAL_ABOVE else None
    kind: Kind = "embedder"
    if heads.is_cross_encoder(weights):
        kind, model = "cross-encoder", heads.build_cross_encoder(weights, arch, beside)
    elif pooling is None:
        raise _pooling_unknown(folder.path)
    else:
        model = heads.build_embedder(weights, arch, pooling, beside)
    return _Built(kind, pooling, save_model(model, target), sha256_file(file))


def _from_onnx(spec: Spec, folder: SourceFolder, out: Path) -> _Built:
    source = folder.onnx
    if source is None:
        raise ModelProblem("there are no weights", f"looked in {folder.path}")
    pooling = spec.pooling or folder.pooling()
    model, logits = adopt(source, pooling)
    files = save_model(model, out / "model.onnx")
    digests = "".join(sha256_file(out / name) for name in files)
    kind: Kind = "cross-encoder" if logits else "embedder"
    if kind == "embedder" and pooling is None:
        raise _pooling_unknown(folder.path)
    return _Built(kind, pooling, files, hashlib.sha256(digests.encode()).hexdigest())


def _pooling_unknown(path: Path) -> ModelProblem:
    return ModelProblem(
        "how this model pools is not known",
        f"{path} has no 1_Pooling/config.json",
        "set `pooling: mean` or `pooling: cls` for this model in gpuctl.yaml",
    )


def _max_tokens(spec: Spec, folder: SourceFolder, kind: Kind) -> int:
    """The spec's, never above what the positions allow; else the authors', for pairs at most 512."""
    config = folder.config
    offset = int(config.get("pad_token_id") or 0) + 1 if "roberta" in str(config.get("model_type")) else 0
    most = int(config.get("max_position_embeddings", 512)) - offset
    if spec.max_tokens is not None:
        if spec.max_tokens > most:
            raise ModelProblem(f"maxTokens is {spec.max_tokens}", f"the model has {most} positions")
        return spec.max_tokens
    return min(most, PAIR_TOKENS) if kind == "cross-encoder" else folder.text_tokens(most)


def _prove(
    spec: Spec, built: _Built, out: Path, max_tokens: int, progress: Progress
) -> tuple[Probes, int | None]:
    """Loads what was built and compares it with its reference, or records its answers."""
    tokenizer = ModelTokenizer(out / "tokenizer.json", max_tokens)
    pad = tokenizer.pad_id(int(json.loads((out / "config.json").read_text()).get("pad_token_id") or 0))
    with closing(OnnxCpuEngine(thread_count())) as engine:
        try:
            engine.load(out / "model.onnx")
        except EngineBroken as broken:
            raise ModelProblem("the model does not load", str(broken)) from broken
        probes = reference_for(built.weights) if spec.pooling in (None, "mean") else None
        if probes is None:
            probes = record(engine, tokenizer, pad, built.kind)
        for number, probe in enumerate(probes.items):
            verdict = judge(probe, engine.infer(tokens_of(probe, tokenizer)))
            if not verdict.ok:
                raise ModelProblem("the model gives wrong answers here", verdict.detail, "run gpuctl doctor")
            progress.amount("prove", number + 1, len(probes.items), "probes")
    first = probes.items[0].vector
    return probes, len(first) if first is not None else None


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256_file(path), path.stat().st_size)
