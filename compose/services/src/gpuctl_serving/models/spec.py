"""What to fetch: the JSON of `--spec`."""

from pathlib import Path
from typing import Literal

import msgspec

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import Dtype


class _Options(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    #: Upstream id to store the model under; the source's own when absent.
    id: str | None = None
    pooling: Literal["mean", "cls"] | None = None
    max_tokens: int | None = None
    normalize: bool | None = None
    #: Put before every text that comes without a `prompt_name`.
    prefix: str = ""
    #: `prompt_name` -> text put before an input; the source's own when absent.
    prompts: dict[str, str] | None = None
    licence: str | None = None
    dtype: Dtype = "float32"


class PackageSpec(_Options, frozen=True, rename="camel", tag="package", tag_field="source", kw_only=True):
    """A Python package that carries weights. `lock` is a pip requirements file with its hashes."""

    package: str
    lock: Path


class PathSpec(_Options, frozen=True, rename="camel", tag="path", tag_field="source", kw_only=True):
    """A folder with config.json, tokenizer.json and model.safetensors or model.onnx."""

    path: Path


class HubSpec(_Options, frozen=True, rename="camel", tag="hub", tag_field="source", kw_only=True):
    """A repository of the model hub. `id` names it; without a commit it is the one `main` is at now."""

    id: str
    revision: str | None = None


Spec = PackageSpec | PathSpec | HubSpec


def parse_spec(text: str) -> Spec:
    """Reads `--spec`. Raises ModelProblem with what is wrong."""
    try:
        spec: Spec = msgspec.json.decode(text.encode("utf-8", "surrogatepass"), type=Spec, dec_hook=_path)
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise ModelProblem("the model's specification cannot be read", str(wrong)) from wrong
    if spec.max_tokens is not None and spec.max_tokens < 4:
        raise ModelProblem("maxTokens is too small", f"{spec.max_tokens} leaves no room for text")
    return spec


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError("a path is written as a string")
