"""What a source folder says about itself: pooling, limits, prompts, licence. Read once, decided here."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.heads import Pooling

#: Where weights may be, best first.
SAFETENSORS = "model.safetensors"
#: Large models are cut into several safetensors; this says which tensor is where.
SHARDS = "model.safetensors.index.json"
ONNX = ("model.onnx", "onnx/model.onnx")
#: What a graph above 2 GiB keeps its weights in, in the folder of the graph.
_BESIDE_ONNX = ("model.onnx_data*", "model.onnx.data*", "Constant_*", "*.weight", "onnx__*")
#: Files that run code when they are loaded: never opened, never downloaded.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib")
REQUIRED = ("config.json", "tokenizer.json")
#: Everything of a source that is read; nothing else is downloaded or unpacked.
SMALL_FILES = (
    *REQUIRED,
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "1_Pooling/config.json",
    "README.md",
)

#: Longest pair a reranker reads unless told otherwise: beyond it cost grows faster than quality.
PAIR_TOKENS = 512


@dataclass(frozen=True)
class SourceFolder:
    """A folder with a model as its authors ship it."""

    path: Path

    def check(self) -> None:
        """Raises ModelProblem naming the first file that is missing."""
        for name in REQUIRED:
            if not (self.path / name).is_file():
                raise ModelProblem(
                    f"{name} is missing", f"looked in {self.path}", "point to a model's folder"
                )
        if not self.safetensors and self.onnx is None:
            raise _no_weights([file.name for file in self.path.iterdir()], str(self.path))

    @property
    def safetensors(self) -> list[Path]:
        """The weights, when they are safetensors: one file, or the shards that an index names."""
        file = self.path / SAFETENSORS
        if file.is_file():
            return [file]
        shards = shards_of(self._json(SHARDS))
        missing = [name for name in shards if not (self.path / name).is_file()]
        if missing:
            raise ModelProblem(f"{missing[0]} is missing", f"{SHARDS} in {self.path} names it")
        return [self.path / name for name in shards]

    @property
    def onnx(self) -> Path | None:
        """The graph, when the authors ship one."""
        return next((self.path / name for name in ONNX if (self.path / name).is_file()), None)

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return self._json("config.json")

    def pooling(self) -> Pooling | None:
        """What 1_Pooling/config.json says, or None when there is no such file."""
        said = self._json("1_Pooling/config.json")
        if said.get("pooling_mode_cls_token") or said.get("pooling_mode") == "cls":
            return "cls"
        if said.get("pooling_mode_mean_tokens") or said.get("pooling_mode") == "mean":
            return "mean"
        if said:
            raise ModelProblem(
                "its pooling is not supported", "only mean and cls are", "choose another model"
            )
        return None

    def normalizes(self) -> bool:
        """Whether vectors are of unit length: modules.json, where it exists, else yes."""
        file = self.path / "modules.json"
        if not file.is_file():
            return True
        modules = json.loads(file.read_text(encoding="utf-8"))
        return any(str(module.get("type", "")).endswith("Normalize") for module in modules)

    def text_tokens(self, most: int) -> int:
        """Longest text in tokens: what the authors trained for, never above what the positions allow."""
        said = self._json("sentence_bert_config.json").get("max_seq_length")
        said = said or self._json("tokenizer_config.json").get("model_max_length")
        return min(most, int(said)) if isinstance(said, int | float) and 0 < said < 1_000_000 else most

    def prompts(self) -> dict[str, str]:
        """Named prompts, as sentence-transformers stores them."""
        found = self._json("config_sentence_transformers.json").get("prompts") or {}
        return {str(name): str(text) for name, text in found.items() if text}

    def licence(self) -> str | None:
        """The model card's licence, or None."""
        file = self.path / "README.md"
        if not file.is_file():
            return None
        card = re.match(
            r"\ufeff?---\n(.*?)\n---", file.read_text(encoding="utf-8", errors="replace"), re.DOTALL
        )
        found = re.search(r"^license:\s*[\"']?([\w.+-]+)", card.group(1), re.MULTILINE) if card else None
        return spdx(found.group(1)) if found else None

    def _json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        if not file.is_file():
            return {}
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as wrong:
            raise ModelProblem(f"{name} cannot be read", str(wrong)) from wrong
        if not isinstance(value, dict):
            raise ModelProblem(f"{name} cannot be read", "it is not an object")
        return value


def shards_of(index: dict[str, Any]) -> list[str]:
    """The files that a safetensors index names, in order. Raises ModelProblem for one outside the folder."""
    weight_map = index.get("weight_map", {})
    names = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
    for name in names:
        if not isinstance(name, str) or "/" in name or not name.endswith(".safetensors"):
            raise ModelProblem(f"{SHARDS} makes no sense", f"it names {name!r}")
    return names


def files_of_a_source(names: Sequence[str], source: str) -> list[str]:
    """Of all files of a repository, those that are needed. Raises ModelProblem when none is safe to load.

    safetensors before ONNX, whole before cut into shards; a pickle is never among them.
    """
    small = [name for name in names if name in SMALL_FILES]
    if SAFETENSORS in names:
        return [*small, SAFETENSORS]
    if SHARDS in names:
        shards = [name for name in names if fnmatch(name, "model-*.safetensors") and "/" not in name]
        return [*small, SHARDS, *shards]
    graph = next((name for name in ONNX if name in names), None)
    if graph is None:
        raise _no_weights(names, source)
    folder = graph.removesuffix("model.onnx")
    beside = [
        name
        for name in names
        if name.startswith(folder)
        and any(fnmatch(name.removeprefix(folder), pattern) for pattern in _BESIDE_ONNX)
    ]
    return [*small, graph, *beside]


def _no_weights(names: Sequence[str], where: str) -> ModelProblem:
    pickles = sorted(name for name in names if any(fnmatch(name, pattern) for pattern in _PICKLES))
    if pickles:
        return ModelProblem(
            f"{where} ships its weights only as {pickles[0]}",
            "such a file is a pickle, which can run any code when it is loaded: it is never opened here",
            "choose a revision that has model.safetensors (many repositories have one among their pull "
            "requests), or convert it on a machine you can lose with safetensors.torch.save_file and use the "
            "`path` source",
        )
    return ModelProblem(
        "there are no weights",
        f"neither {SAFETENSORS} nor model.onnx is in {where}",
        "choose a model that ships one of them",
    )


def spdx(licence: str) -> str:
    """The hub writes licences in lower case; SPDX does not."""
    known = {
        "apache-2.0": "Apache-2.0",
        "mit": "MIT",
        "bsd-3-clause": "BSD-3-Clause",
        "cc-by-4.0": "CC-BY-4.0",
    }
    return known.get(licence.lower(), licence)
