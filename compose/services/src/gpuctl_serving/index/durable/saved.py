"""The saved FAISS index that a start can begin from."""

from pathlib import Path

from gpuctl_serving.index.durable.manifest import SnapshotInvalid, check_files, read_manifest, snapshots
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.schema import is_sealed
from gpuctl_serving.index.store import Generation, Store

FOLDER = "faiss"


class SavedIndexes:
    """Those in the snapshots of an index directory, and what a start had against them."""

    def __init__(self, directory: Path, report: Report) -> None:
        self._directory, self._report = directory, report

    def find(self, store: Store, generation: Generation) -> tuple[Path, int] | None:
        """The newest valid one of a generation that the database can bring forward: (folder, its change)."""
        tail = store.rows.tail() if is_sealed(store.connection) else None
        if tail is None:
            return None
        for one in snapshots(self._directory):
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
                self._report.say(
                    "snapshot-invalid", f"The saved index of a snapshot was not used: {invalid}."
                )
        return None

    def refuse(self, folder: Path, why: str) -> None:
        """It had its hashes, and is wrong all the same."""
        name = folder.parent.name
        self._report.say("saved-index-refused", f"The saved index of snapshot {name} was not used: {why}.")
