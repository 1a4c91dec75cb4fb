"""The model store: one directory per model and revision, there complete by one rename, or not at all."""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import MANIFEST, Manifest, damage, read_manifest

_STAGING = ".staging"
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class StoredModel:
    """A model in the store."""

    directory: Path
    manifest: Manifest


class ModelStore:
    """The store under one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, model_id: str, revision: str) -> Path:
        """Where a model lives. Raises ModelProblem for ids that would leave the store."""
        folder = model_id.replace("/", "--")
        if folder.startswith(".") or not folder or not _REVISION.fullmatch(revision):
            raise ModelProblem(
                f"{model_id!r} at {revision!r} cannot be stored", "the name is not a plain one"
            )
        return self.root / folder / revision

    def find(self, model_id: str, revision: str) -> StoredModel | None:
        """A stored model by id and revision."""
        directory = self.directory(model_id, revision)
        return StoredModel(directory, read_manifest(directory)) if (directory / MANIFEST).exists() else None

    def list(self) -> tuple[list[StoredModel], list[tuple[Path, str]]]:
        """Every model, and the directories that hold a damaged manifest with the reason."""
        models, damaged = [], []
        for file in sorted(self.root.glob(f"*/*/{MANIFEST}")):
            try:
                models.append(StoredModel(file.parent, read_manifest(file.parent)))
            except ModelProblem as problem:
                damaged.append((file.parent, str(problem)))
        return models, damaged

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the store's file system, removed at the end whatever happens."""
        base = self.root / _STAGING
        folder, lock = _own_folder(base)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            with suppress(OSError):
                base.rmdir()

    def install(self, prepared: Path, manifest: Manifest) -> StoredModel:
        """Moves a prepared folder into place. Replaces a damaged model, keeps a sound one."""
        target = self.directory(manifest.id, manifest.revision)
        (prepared / MANIFEST).write_bytes(manifest.encode())
        for name in (*manifest.files, MANIFEST):
            _sync(prepared / name)
        _sync(prepared)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if not (wrong := _what_is_wrong(target)):
                return StoredModel(target, read_manifest(target))
            aside = prepared.parent / f"{prepared.name}-replaced"
            target.rename(aside)
            (prepared.parent / "why-replaced").write_text(wrong)
        try:
            prepared.rename(target)
        except OSError as failure:
            if failure.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            # Another fetch of the same model was a moment faster.
            return self.install(prepared, manifest)
        _sync(target.parent)
        return StoredModel(target, manifest)


def _own_folder(base: Path) -> tuple[Path, int]:
    """A new folder in `base`, locked. Another fetch may sweep it up before that, or remove `base`."""
    while True:
        base.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            _sweep(base)
            folder = Path(tempfile.mkdtemp(dir=base))
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _what_is_wrong(directory: Path) -> str:
    try:
        return "; ".join(f"{name}: {why}" for name, why in damage(directory, read_manifest(directory)))
    except ModelProblem as problem:
        return str(problem)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(base: Path) -> None:
    """Removes staging folders whose process is gone: a live one holds the lock of its folder."""
    for folder in base.iterdir():
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)
