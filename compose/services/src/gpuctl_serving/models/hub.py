"""The model hub: the files of one commit, listed by its API, checked by hash, kept until they are built."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.hub_download import RemoteFile, download, is_right
from gpuctl_serving.models.hub_environment import HubEnvironment
from gpuctl_serving.models.hub_http import HubAnswer, HubHttp, HubUnreachable
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.source_folder import files_of_a_source
from gpuctl_serving.models.spec import HubSpec

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: Where unfinished downloads wait, below the store.
DOWNLOADS = ".downloads"
#: Free space that is left alone, and the graph is built beside what it is built from.
_SPARE_BYTES = 64 * 1024 * 1024


class Snapshot(NamedTuple):
    """The files of one commit in a folder."""

    folder: Path
    commit: str


class _Lfs(msgspec.Struct):
    sha256: str | None = None
    oid: str | None = None
    size: int | None = None


class _Sibling(msgspec.Struct, rename={"blob": "blobId"}):
    rfilename: str
    size: int | None = None
    blob: str | None = None
    lfs: _Lfs | None = None


class _Info(msgspec.Struct):
    sha: str
    siblings: list[_Sibling]


@contextmanager
def hub_snapshot(spec: HubSpec, store: Path, progress: Progress) -> Iterator[Snapshot]:
    """The snapshot of `spec`, while the block runs. Its files are dropped when the block ends well.

    When it does not (no connection, a full disk, a refused model), what was downloaded stays for next time.
    """
    _check(spec)
    env = HubEnvironment.of(os.environ)
    if env.offline:
        yield _from_cache(spec, env)
        return
    http = HubHttp(env.endpoint, env.token)
    info = _info(spec, http)
    folder = store / DOWNLOADS / spec.id.replace("/", "--") / info.sha
    with _only_one(folder, progress):
        _bring(spec, info, http, env, folder, progress)
        yield Snapshot(folder, info.sha)
        shutil.rmtree(folder, ignore_errors=True)


def resolve_commit(spec: HubSpec) -> str:
    """The commit that `spec` means now: its own, or what `main` is at."""
    _check(spec)
    env = HubEnvironment.of(os.environ)
    if env.offline:
        return _from_cache(spec, env).commit
    return _info(spec, HubHttp(env.endpoint, env.token)).sha


def _check(spec: HubSpec) -> None:
    if not _REPOSITORY.fullmatch(spec.id):
        raise ModelProblem(f"{spec.id!r} is not the name of a repository", "it is like BAAI/bge-m3")
    if spec.revision is not None and not _COMMIT.fullmatch(spec.revision):
        raise ModelProblem(
            f"revision {spec.revision!r} of {spec.id} can move",
            "only a full commit hash names the same files for ever",
            "copy the 40 characters of a commit from the model's history",
        )


def _info(spec: HubSpec, http: HubHttp) -> _Info:
    """What the API says of the repository at the revision; without one, at the branch `main` as it is now."""
    revision = spec.revision or "main"
    url = f"{http.endpoint}/api/models/{quote(spec.id)}/revision/{revision}?blobs=true"
    with _explained(spec, http):
        opened = http.open(url)
        with opened.body:
            text = opened.body.read()
    try:
        info = msgspec.json.decode(text, type=_Info)
    except msgspec.MsgspecError as wrong:
        raise ModelProblem(
            f"{http.endpoint} does not answer like a model hub", str(wrong), "check HF_ENDPOINT"
        ) from wrong
    if not _COMMIT.fullmatch(info.sha) or (spec.revision is not None and info.sha != spec.revision):
        raise ModelProblem(
            f"the hub answered with another commit of {spec.id}",
            f"asked for {revision}, got {info.sha[:60]!r}",
            "check HF_ENDPOINT, and run the fetch again",
        )
    return info


def _bring(
    spec: HubSpec, info: _Info, http: HubHttp, env: HubEnvironment, folder: Path, progress: Progress
) -> None:
    wanted = set(files_of_a_source([sibling.rfilename for sibling in info.siblings], spec.id))
    files = [_remote(sibling) for sibling in info.siblings if sibling.rfilename in wanted]
    cached = env.snapshot(spec.id, info.sha)
    missing = [file for file in files if not _there(file, folder, cached)]
    total = sum(file.size or 0 for file in files)
    done = total - sum(file.size or 0 for file in missing)
    _need_space(folder, sum(_remaining(file, folder) for file in missing))
    for file in missing:

        def told(bytes_of_file: int, before: int = done) -> None:
            progress.amount("download", before + bytes_of_file, max(total, before + bytes_of_file), "bytes")

        with _explained(spec, http):
            download(http, quote(spec.id), info.sha, file, folder / file.name, told)
        done += file.size or (folder / file.name).stat().st_size


def _remote(sibling: _Sibling) -> RemoteFile:
    path = PurePosixPath(sibling.rfilename)
    if path.is_absolute() or ".." in path.parts:
        raise ModelProblem(f"the hub lists a file outside the repository: {sibling.rfilename!r}")
    lfs = sibling.lfs
    if lfs is None:
        return RemoteFile(sibling.rfilename, sibling.size, None, sibling.blob)
    size = lfs.size if lfs.size is not None else sibling.size
    sha256 = (lfs.sha256 or lfs.oid or "").removeprefix("sha256:") or None
    return RemoteFile(sibling.rfilename, size, sha256, None)


def _there(file: RemoteFile, folder: Path, cached: Path | None) -> bool:
    """Whether the file is here already, from an earlier attempt or in the cache of the hub's own tools."""
    target = folder / file.name
    if target.exists() and is_right(target, file):
        return True
    known = cached / file.name if cached is not None else None
    if known is None or not known.is_file() or not (file.sha256 or file.blob) or not is_right(known, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(known.resolve())
    return True


def _remaining(file: RemoteFile, folder: Path) -> int:
    part = folder / (file.name + ".part")
    return max(0, (file.size or 0) - (part.stat().st_size if part.exists() else 0))


def _need_space(folder: Path, wanted: int) -> None:
    """Says before a long download that it cannot end well."""
    free = shutil.disk_usage(folder).free
    if wanted and wanted + _SPARE_BYTES > free:
        raise ModelProblem(
            "the model cannot be stored",
            f"{wanted / 1e6:.0f} MB are still to be downloaded to {folder} and {free / 1e6:.0f} MB are free",
            "free some space and run it again; what is there already is kept",
        )


def _from_cache(spec: HubSpec, env: HubEnvironment) -> Snapshot:
    """Without a network: what the hub's own tools left on this machine."""
    commit = spec.revision or env.branch(spec.id, "main")
    folder = env.snapshot(spec.id, commit) if commit is not None else None
    if folder is None or commit is None:
        raise ModelProblem(
            f"{spec.id} is not in the hub's cache ({env.cache})", "HF_HUB_OFFLINE forbids a download",
            "unset it, or fetch on a connected machine and copy the model store or the cache",
        )  # fmt: skip
    return Snapshot(folder, commit)


@contextmanager
def _only_one(folder: Path, progress: Progress) -> Iterator[None]:
    """Holds the folder's lock: a second fetch of the same commit waits, and then finds the files."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.amount("wait for another fetch of the same", 0, None, "models")
            fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        os.close(lock)


@contextmanager
def _explained(spec: HubSpec, http: HubHttp) -> Iterator[None]:
    """Turns the hub's refusals into sentences."""
    try:
        yield
    except HubAnswer as answer:
        raise _refusal(spec, answer, http.endpoint) from answer
    except HubUnreachable as failure:
        raise ModelProblem(
            f"{spec.id} cannot be downloaded", str(failure),
            "check the network, HF_ENDPOINT and HTTPS_PROXY; run it again: it goes on where it ended",
        ) from failure  # fmt: skip


def _refusal(spec: HubSpec, answer: HubAnswer, endpoint: str) -> ModelProblem:
    if answer.code == "GatedRepo" or answer.status in {401, 403}:
        why = "accept its terms on the hub, and set HF_TOKEN to a token that may read it"
        return ModelProblem(f"the hub does not give {spec.id} to you", str(answer), why)
    if answer.status == 404:
        return ModelProblem(
            f"the hub has no {spec.id} at {spec.revision or 'main'}",
            f"or it is private ({answer}, {endpoint})",
            "check the name and the revision, or set HF_TOKEN",
        )
    return ModelProblem(
        f"{spec.id} cannot be downloaded", f"{endpoint}: {answer}", "run the fetch again later"
    )
