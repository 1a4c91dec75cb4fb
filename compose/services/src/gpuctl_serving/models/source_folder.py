"""What a source folder says about itself: pooling, limits, prompts, licence. Read once, decided here."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.heads import Pooling

#: Where weights may be, best first.
SAFETENSORS = "model.safetensors"
ONNX = ("model.onnx", "onnx/model.onnx")
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
        if self.safetensors is None and self.onnx is None:
            raise ModelProblem(
                "there are no weights", f"neither {SAFETENSORS} nor model.onnx is in {self.path}",
                "choose a model that ships one of them",
            )  # fmt: skip

    @property
    def safetensors(self) -> Path | None:
        """The weights, when they are safetensors."""
        file = self.path / SAFETENSORS
        return file if file.is_file() else None

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


def spdx(licence: str) -> str:
    """The hub writes licences in lower case; SPDX does not."""
    known = {
        "apache-2.0": "Apache-2.0",
        "mit": "MIT",
        "bsd-3-clause": "BSD-3-Clause",
        "cc-by-4.0": "CC-BY-4.0",
    }
    return known.get(licence.lower(), licence)
