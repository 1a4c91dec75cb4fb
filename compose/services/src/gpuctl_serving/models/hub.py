"""The model hub: one snapshot at a pinned commit, through huggingface_hub and its cache."""

import asyncio
import os
import re
from pathlib import Path

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.source_folder import SAFETENSORS, SMALL_FILES, SourceFolder
from gpuctl_serving.models.spec import HubSpec
from gpuctl_serving.models.watching import watching

_COMMIT = re.compile(r"[0-9a-f]{40}")
#: Graphs above 2 GiB keep their weights in files beside them, under whatever names.
_ONNX_FILES = ("model.onnx", "model.onnx_data", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/Constant_*")


async def fetch_hub(spec: HubSpec, progress: Progress) -> Path:
    """Downloads a snapshot (or finds it in the cache, offline); returns its folder.

    HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, HF_HOME and the proxy variables mean what they mean everywhere.
    """
    if not _COMMIT.fullmatch(spec.revision):
        raise ModelProblem(
            f"revision {spec.revision!r} of {spec.id} can move",
            "only a full commit hash names the same files for ever",
            "copy the 40 characters of a commit from the model's history",
        )
    # Before the library is imported: it reads this once. Nobody is told what is fetched.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    async with watching(_cache_folder(spec), "download", progress):
        folder = await asyncio.to_thread(_snapshot, spec, (*SMALL_FILES, SAFETENSORS))
        found = SourceFolder(folder)
        if found.safetensors is None and found.onnx is None:
            folder = await asyncio.to_thread(_snapshot, spec, (*SMALL_FILES, *_ONNX_FILES))
    return folder


def _cache_folder(spec: HubSpec) -> Path:
    """Where the hub's library keeps what it downloads of this repository."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / ("models--" + spec.id.replace("/", "--"))


def _snapshot(spec: HubSpec, patterns: tuple[str, ...]) -> Path:
    # Imported here: it takes a third of a second, and only this source needs it.
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            spec.id, revision=spec.revision, allow_patterns=list(patterns), tqdm_class=None
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as failure:
        raise ModelProblem(
            f"the hub has no {spec.id} at {spec.revision}", "or it is private", "check both, or set HF_TOKEN"
        ) from failure
    except errors.LocalEntryNotFoundError as failure:
        raise ModelProblem(
            f"{spec.id} is not in the hub's cache", "and the hub cannot be reached or HF_HUB_OFFLINE is set",
            "check the network and HF_ENDPOINT, or fetch it on a connected machine and copy the model store",
        ) from failure  # fmt: skip
    except Exception as failure:  # The library lets its HTTP client's errors through.
        raise ModelProblem(
            f"{spec.id} cannot be downloaded", str(failure), "run the fetch again"
        ) from failure
    return Path(folder)
