"""Finds the saved FAISS index that a start can begin from."""

from pathlib import Path

from gpuctl_serving.index.durable.manifest import SnapshotInvalid, check_files, read_manifest, snapshots
from gpuctl_serving.index.schema import is_sealed
from gpuctl_serving.index.store import Generation, Store
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

FOLDER = "faiss"


def find_saved(directory: Path, store: Store, generation: Generation) -> tuple[Path, int] | None:
    """The newest valid one of a generation that the database can bring forward: (folder, change it is at)."""
    tail = store.rows.tail() if is_sealed(store.connection) else None
    if tail is None:
        return None
    for one in snapshots(directory):
        try:
            manifest = read_manifest(one)
            saved = manifest.faiss
            if saved is None or manifest.line != tail.line.hex() or saved.newest > tail.sequence:
                continue
            if (saved.generation, saved.dimension) != (generation.key, generation.dimension):
                continue
            check_files(one, manifest, saved.files)
            return one / FOLDER, saved.sequence
        except SnapshotInvalid as invalid:
            log.warning("snapshot-invalid", reason=str(invalid))
    return None
