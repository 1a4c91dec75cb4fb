"""From a source's files to our graph: safetensors by the converters, or the authors' ONNX with our output."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.models import heads
from gpuctl_serving.models.adopt_onnx import adopt
from gpuctl_serving.models.architecture import Architecture
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.graph import EXTERNAL_ABOVE, beside_of, save_model
from gpuctl_serving.models.heads import Pooling
from gpuctl_serving.models.manifest import Kind, sha256_file
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.safetensors import Weights
from gpuctl_serving.models.source_folder import SourceFolder
from gpuctl_serving.models.spec import Spec


@dataclass(frozen=True)
class Built:
    """A graph on disk and what it turned out to be."""

    kind: Kind
    pooling: Pooling | None
    #: Files the graph takes, in the output folder.
    files: list[str]
    #: Hash of the weights as the authors ship them.
    weights: str
    #: Whether our own converter wrote it: only of those the structure is known.
    ours: bool


def build(spec: Spec, folder: SourceFolder, out: Path, progress: Progress) -> Built:
    """Writes model.onnx of `folder` into `out`. Raises ModelProblem for what cannot be built rightly."""
    progress.emit({"event": "progress", "label": "build", "done": 0, "total": 1, "unit": "graph"})
    if files := folder.safetensors:
        built = _from_safetensors(spec, folder, files, out)
    else:
        built = _from_onnx(spec, folder, out)
    progress.amount("build", 1, 1, "graph")
    return built


def _from_safetensors(spec: Spec, folder: SourceFolder, files: Sequence[Path], out: Path) -> Built:
    weights, arch = Weights(*files), Architecture.from_config(folder.config)
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
    return Built(kind, pooling, save_model(model, target), _hash(files), ours=True)


def _from_onnx(spec: Spec, folder: SourceFolder, out: Path) -> Built:
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
    return Built(kind, pooling, files, hashlib.sha256(digests.encode()).hexdigest(), ours=False)


def _hash(files: Sequence[Path]) -> str:
    """Of the one file, or of the hashes of the shards."""
    hashes = [sha256_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _pooling_unknown(path: Path) -> ModelProblem:
    return ModelProblem(
        "how this model pools is not known",
        f"{path} has no 1_Pooling/config.json",
        "set `pooling: mean` or `pooling: cls` for this model in gpuctl.yaml",
    )
