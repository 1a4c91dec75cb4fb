"""One model's files, verified: what tokenises for it, and what proves an engine that runs it."""

from dataclasses import dataclass, replace
from pathlib import Path

from gpuctl_serving.engines.budget import before_loading
from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.memory_limit import available_bytes
from gpuctl_serving.engines.protocol import EngineSpec, Rows
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import Manifest, damage, read_manifest
from gpuctl_serving.models.probing import Verdict, judge, tokens_of
from gpuctl_serving.models.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model that an engine may run."""

    directory: Path
    manifest: Manifest
    tokenizer: ModelTokenizer
    max_tokens: int

    @classmethod
    def read(cls, directory: Path, max_tokens: int) -> "LoadedModel":
        """Reads and verifies the files. Blocks; raises LoadFailed with what to do."""
        try:
            manifest = read_manifest(directory)
            if broken := damage(directory, manifest):
                what = "; ".join(f"{name} {why}" for name, why in broken)
                raise LoadFailed(f"The model in {directory} is damaged: {what}. Run `gpuctl models fetch`.")
            most = min(max_tokens or manifest.max_tokens, manifest.max_tokens)
            return cls(directory, manifest, ModelTokenizer(directory / "tokenizer.json", most), most)
        except ModelProblem as problem:
            raise LoadFailed(f"{problem}. Run `gpuctl models fetch`.") from problem

    def _fitted(self, spec: EngineSpec) -> EngineSpec:
        """The engine in the precision of the stored model. Raises LoadFailed where the two contradict."""
        name, stored = self.manifest.id, self.manifest.dtype
        if stored == "int8" and spec.device != "cpu":
            raise LoadFailed(
                f"{name} was fetched as int8, and int8 on a GPU is many times slower than float16: refused. "
                "Fetch it without `dtype: int8`, or set GPUCTL_DEVICE=cpu"
            )
        if stored == "int8" and spec.name == "onnxruntime-cpu":
            return replace(spec, dtype="int8")
        if spec.dtype == "int8" and stored != "int8":
            raise LoadFailed(
                f"GPUCTL_DTYPE=int8, but {name} was fetched in float32. "
                "Fetch it with `dtype: int8`, or set GPUCTL_DTYPE=auto"
            )
        return spec

    @property
    def key(self) -> str:
        """Names the model: rows are tokenised for exactly one."""
        return f"{self.manifest.id}@{self.manifest.revision}"

    @property
    def is_cross_encoder(self) -> bool:
        """Whether it scores pairs; else it gives vectors."""
        return self.manifest.kind == "cross-encoder"

    def part(self, spec: EngineSpec, batch_tokens: int) -> Part:
        """What a slot needs to run this model; `batch_tokens` 0 leaves them to measured memory."""
        spec = self._fitted(spec)
        probe = self.manifest.probes.items[0]

        def verdict(rows: Rows) -> Verdict:
            return judge(probe, rows, spec.dtype)

        dimension = self.manifest.dimension
        return Part(
            spec=spec,
            file=self.directory / "model.onnx",
            model=self.key,
            pad_id=self.tokenizer.pad_id(0),
            canary=tokens_of(probe, self.tokenizer),
            judge=verdict,
            shape=() if dimension is None else (dimension,),
            batch_tokens=batch_tokens or before_loading(spec, available_bytes()),
            from_memory=batch_tokens == 0,
            longest=self.tokenizer.texts(["word " * self.max_tokens])[0],
        )
