"""One file of the hub: resumed where it broke off, checked by its hash, and only then called by its name."""

import hashlib
import http.client
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import quote

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.hub_http import HubAnswer, HubHttp, HubUnreachable, Opened
from gpuctl_serving.models.manifest import sha256_file

_BLOCK = 1024 * 1024
#: Attempts in a row that bring nothing new before it is given up.
_ATTEMPTS = 6
_LONGEST_WAIT_SECONDS = 20.0
_RETRIED = {408, 425, 429, 500, 502, 503, 504}

#: Files without which there is no model: never taken unchecked.
_WEIGHTS = (".safetensors", ".onnx", ".onnx_data")

#: Told how many bytes of the file are there.
Told = Callable[[int], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit, and what its bytes must be."""

    name: str
    size: int | None
    #: Of the content, for files the hub keeps in large storage.
    sha256: str | None
    #: Git's blob hash (SHA-1 over a header and the content), for the others.
    blob: str | None


class _Again(HubUnreachable):
    """This attempt ended; the next goes on from what is there."""


def download(http: HubHttp, repository: str, commit: str, file: RemoteFile, target: Path, told: Told) -> None:
    """Brings `file` to `target`, which appears whole and verified or not at all.

    What arrived stays in `<target>.part` when this is interrupted, and the next call goes on from there.
    """
    url = f"{http.endpoint}/{repository}/resolve/{commit}/{quote(file.name)}"
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    known, fresh = file, not part.exists()
    fruitless, before = 0, -1
    while True:
        try:
            known = _attempt(http, url, known, part, told)
            _insist_on_a_hash(repository, known)
            if is_right(part, known):
                part.replace(target)
                return
            part.unlink()
            if fresh:
                raise _wrong_hash(repository, file.name)
            fresh = True  # Its beginning was of another day: once more from the start.
            continue
        except (HubUnreachable, HubAnswer) as failure:
            size = part.stat().st_size if part.exists() else 0
            fruitless, before = (0, size) if size > before else (fruitless + 1, before)
            pause = _pause(failure, fruitless)
            if pause is None:
                raise
            time.sleep(pause)


def _attempt(http: HubHttp, url: str, file: RemoteFile, part: Path, told: Told) -> RemoteFile:
    """One request; returns what the hub says of the file. Raises _Again when bytes are missing."""
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have > file.size:
        part.unlink()
        have = 0
    if file.size is not None and have == file.size and part.exists():
        return file
    try:
        opened = http.open(url, {"Range": f"bytes={have}-"} if have else {})
    except HubAnswer as answer:
        if answer.status == 416:  # The file is shorter than what we have: it is another one.
            part.unlink(missing_ok=True)
            raise _Again("the range does not exist") from answer
        raise
    with opened.body:
        said = _described(file, opened)
        goes_on = opened.status == 206 and _starts_at(opened.headers) == have
        if opened.status == 206 and not goes_on:
            part.unlink(missing_ok=True)
            raise _Again("the hub answered with another range")
        _receive(opened, part, have if goes_on else 0, told)
    if said.size is not None and part.stat().st_size < said.size:
        raise _Again("the connection broke off")
    return said


def _receive(opened: Opened, part: Path, start: int, told: Told) -> None:
    """Writes the body behind `start`; a server that ignores ranges begins again, and so do we."""
    with part.open("r+b" if part.exists() else "wb") as sink:
        sink.truncate(start)
        sink.seek(start)
        done = start
        while True:
            try:
                block = opened.body.read1(_BLOCK)
            except http.client.IncompleteRead as cut:
                sink.write(cut.partial)
                raise _Again("the connection broke off") from cut
            except (OSError, http.client.HTTPException) as dropped:
                raise _Again(f"the connection broke off: {dropped}") from dropped
            if not block:
                return
            sink.write(block)
            done += len(block)
            told(done)


def _described(file: RemoteFile, opened: Opened) -> RemoteFile:
    """The size and hash the hub names in its answer, where its list of files named none."""
    size, sha256, blob = file.size, file.sha256, file.blob
    tag = (
        (opened.linked.get("X-Linked-ETag") or opened.linked.get("ETag") or "").removeprefix("W/").strip('"')
    )
    if sha256 is None and blob is None:
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            sha256 = tag
        elif re.fullmatch(r"[0-9a-f]{40}", tag):
            blob = tag
    if size is None:
        length = opened.linked.get("X-Linked-Size") or _whole_length(opened)
        size = int(length) if length and length.isdigit() else None
    return RemoteFile(file.name, size, sha256, blob)


def _whole_length(opened: Opened) -> str | None:
    if opened.status == 206:
        return opened.headers.get("Content-Range", "").rpartition("/")[2]
    return opened.headers.get("Content-Length")


def _starts_at(headers: Message) -> int | None:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(found.group(1)) if found else None


def is_right(path: Path, file: RemoteFile) -> bool:
    """Whether a file on disk is the one the hub lists."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return False
    if file.sha256 is not None:
        return sha256_file(path) == file.sha256
    if file.blob is not None:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest() == file.blob
    return True


def _pause(failure: Exception, fruitless: int) -> float | None:
    """Seconds until the next attempt, None when there should be none."""
    if fruitless >= _ATTEMPTS or (isinstance(failure, HubAnswer) and failure.status not in _RETRIED):
        return None
    if isinstance(failure, HubAnswer) and failure.retry_after is not None:
        return min(failure.retry_after, _LONGEST_WAIT_SECONDS)
    # Spread, so that many machines do not come back at once.
    longest: float = min(0.25 * 2**fruitless, _LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311


def _insist_on_a_hash(repository: str, file: RemoteFile) -> None:
    if file.sha256 is None and file.blob is None and file.name.endswith(_WEIGHTS):
        raise ModelProblem(
            f"{file.name} of {repository} cannot be checked",
            "the hub names no hash for it, neither in its list of files nor in X-Linked-ETag or ETag",
            "use a hub or mirror that passes them on: set HF_ENDPOINT",
        )


def _wrong_hash(repository: str, name: str) -> ModelProblem:
    return ModelProblem(
        f"{name} of {repository} has the wrong hash",
        "what was sent is not what the hub lists for this commit; nothing of it was kept",
        "run the fetch again; if it stays, look at HF_ENDPOINT and at what is between here and the hub",
    )
