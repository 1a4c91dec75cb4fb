"""The steps of a migration, in order. Each is resumable; until the last one nothing that serves changes."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gpuctl_serving.migration import peers
from gpuctl_serving.migration.journal import Journal, sha256_of
from gpuctl_serving.migration.material import Material, Row
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.recall import compare, find_texts
from gpuctl_serving.migration.switch import switch
from gpuctl_serving.models.progress import Progress

#: Items a request; each request is acknowledged only when it is on the disk of the index.
_BATCH = 256
#: Characters a request: far below the smallest body that a service is set to take.
_CHARACTERS = 2_000_000
#: Items looked for to see whether a finished migration is still in service.
_SAMPLE = 16
#: Share of re-embedded texts that must find their own item among the first ten.
_OWN_ITEM = 0.95


class Migration:
    """One run over the steps that are not done yet."""

    def __init__(self, material: Material, progress: Progress) -> None:
        self._material, self._progress = material, progress
        self._spec = material.spec
        self._directory = Path(self._spec.backup_dir)
        self._journal = Journal(self._directory, material.identity)

    def run(self) -> dict[str, Any]:
        """All steps; what each found or did."""
        found: dict[str, Any] = {}
        steps: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
            ("backup", self._backup),
            ("load", self._load),
            ("verify", self._verify),
            ("switch", self._switch),
        )
        self._forget_what_is_gone()
        for name, step in steps:
            done = self._journal.result(name)
            self._progress.emit({"event": "step", "step": name, "state": "done-before" if done else "begin"})
            found[name] = done or self._journal.record(name, step())
        return found

    def _forget_what_is_gone(self) -> None:
        """A finished migration whose items are not there any more is done again from the start."""
        if self._journal.result("switch") is None:
            return
        ids = [row.document.id for row in self._material.sample(_SAMPLE)]
        if not peers.present(self._spec.index, self._spec.namespace, ids):
            self._journal.forget("backup", "load", "verify", "switch")
            self._journal.note("switch", None)

    def _backup(self) -> dict[str, Any]:
        files = [self._spec.source]
        if self._material.documents_file:
            files.append(self._material.documents_file)
        kept = {}
        for number, file in enumerate(files):
            target = self._directory / file.name
            if target.exists() and target.samefile(file):
                raise MigrationProblem(
                    f"{file} cannot be backed up to where it lies",
                    f"--backup-dir {self._directory} is its own directory",
                    "give another --backup-dir",
                )
            if not (target.exists() and sha256_of(target) == sha256_of(file)):
                _copy(file, target)
            kept[file.name] = sha256_of(target)
            if kept[file.name] not in self._material.identity.values():
                raise MigrationProblem(
                    f"{file} changed while it was read",
                    "its copy is not what was checked",
                    "stop what writes it, then run it again",
                )
            self._progress.amount("backup", number + 1, len(files), "files")
        snapshot = peers.job(self._spec.index, "snapshot")["snapshot"]
        return {"directory": str(self._directory), "files": kept, "indexSnapshot": snapshot}

    def _load(self) -> dict[str, Any]:
        total, upto = self._material.source.kind.count, self._journal.progress("load")
        done = 0
        for rows in _batches(self._material.rows()):
            done += len(rows)
            if done <= upto:
                continue
            body = {
                "namespace": self._staging,
                # What was sent before a crash and not yet written down here is sent again.
                "upsert": True,
                "items": [self._item(row) for row in rows],
            }
            peers.call(self._spec.index, "index", "POST", f"{peers.BASE}/add", body)
            self._journal.advance("load", done)
            self._progress.amount("load", done, total, "vectors")
        return {"namespace": self._staging, "items": total}

    def _item(self, row: Row) -> dict[str, Any]:
        document = row.document
        item: dict[str, Any] = {"id": document.id, "metadata": document.metadata}
        if document.text is not None:
            item["text"] = document.text
        if not self._spec.re_embed:
            item["vectorBase64"] = peers.base64_of(row.vector)
        return item

    def _verify(self) -> dict[str, Any]:
        material, spec = self._material, self._spec
        self._expect_loaded()
        if spec.re_embed:
            return self._verify_texts()
        found = compare(material, self._staging, self._progress)
        if found["recall"] < found["sourceRecall"] - spec.recall_loss:
            # Not of vectors that were taken away under the measurement.
            self._expect_loaded()
            raise MigrationProblem(
                f"the migrated index finds {found['recall']:.3f} of the true neighbours",
                f"the source finds {found['sourceRecall']:.3f}, and at most {spec.recall_loss} may be lost; "
                "what served before goes on serving",
                "run it again with --re-embed, or allow more with --recall-loss",
            )
        return found

    def _verify_texts(self) -> dict[str, Any]:
        """Other vectors have other neighbours: here every text must find its own item."""
        found = find_texts(self._material, self._staging, self._progress)
        if found["recall"] < _OWN_ITEM - self._spec.recall_loss:
            self._expect_loaded()
            raise MigrationProblem(
                f"of the migrated texts {found['recall']:.3f} find their own item",
                f"at least {_OWN_ITEM} must; what served before goes on serving",
                "gpuctl index verify, then run it again, or allow more with --recall-loss",
            )
        return found

    def _expect_loaded(self) -> None:
        """Everything loaded is still there: a restore or somebody else's write may have changed that."""
        count = self._material.source.kind.count
        there = int(peers.stats(self._spec.index)["namespaces"].get(self._staging, 0))
        if there == count or self._journal.noted("switch"):
            return
        if there > count:
            # Somebody else's items cannot be told from ours there: the next run fills another namespace.
            self._journal.note("attempt", self._attempt + 1)
        self._journal.forget("load", "verify")
        raise MigrationProblem(
            f"the index holds {there} of {count} migrated items",
            "somebody else wrote to the namespace of the migration, items were deleted from it, the index "
            "was restored, or another migration of the same file put them in service",
            "run it again: it loads them anew",
        )

    @property
    def _attempt(self) -> int:
        return int(self._journal.noted("attempt") or 1)

    @property
    def _staging(self) -> str:
        return self._material.staging + (f"-{self._attempt}" if self._attempt > 1 else "")

    def _switch(self) -> dict[str, Any]:
        self._expect_loaded()
        return switch(self._spec, self._journal, self._staging, self._material.short)


def _copy(file: Path, target: Path) -> None:
    fresh = target.with_name(f"{target.name}.new")
    try:
        shutil.copyfile(file, fresh)
        with fresh.open("rb") as written:
            os.fsync(written.fileno())
        fresh.replace(target)
    except OSError as failure:
        fresh.unlink(missing_ok=True)
        raise MigrationProblem(
            f"{file} cannot be backed up to {target.parent}",
            failure.strerror or str(failure),
            "free space, or give another --backup-dir",
        ) from failure


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Requests of so many items and so many characters; always the same ones."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        own = len(row.document.text or "") + len(row.vector) * 6 + len(str(row.document.metadata))
        if batch and (len(batch) == _BATCH or size + own > _CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += own
    if batch:
        yield batch
