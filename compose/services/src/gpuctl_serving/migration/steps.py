"""The steps of a migration, in order. Each is resumable; until the last one nothing that serves changes."""

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from gpuctl_serving.migration import peers
from gpuctl_serving.migration.journal import Journal, sha256_of
from gpuctl_serving.migration.material import Material, Row
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.recall import compare
from gpuctl_serving.models.progress import Progress

#: Items a request; each request is acknowledged only when it is on the disk of the index.
_BATCH = 256


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
        for name, step in steps:
            done = self._journal.result(name)
            self._progress.emit({"event": "step", "step": name, "state": "done-before" if done else "begin"})
            found[name] = done or self._journal.record(name, step())
        return found

    def undo(self) -> dict[str, Any]:
        """Puts the namespace of before back in service, and keeps what was migrated beside it."""
        switched = self._journal.result("switch")
        if switched is None:
            raise MigrationProblem(
                "there is nothing to undo",
                f"the migration in {self._directory} never switched",
                "gpuctl index stats",
            )
        if not switched["kept"]:
            raise MigrationProblem(
                "there is nothing to go back to",
                f"the namespace {self._spec.namespace} was empty before",
                "gpuctl index stats",
            )
        self._rename(switched["kept"], self._material.staging)
        self._journal.forget("switch")
        return {"namespace": self._spec.namespace, "kept": self._material.staging}

    def _backup(self) -> dict[str, Any]:
        files = [self._spec.source]
        if self._material.documents_file:
            files.append(self._material.documents_file)
        kept = {}
        for number, file in enumerate(files):
            target = self._directory / file.name
            if not (target.exists() and sha256_of(target) == sha256_of(file)):
                _copy(file, target)
            kept[file.name] = sha256_of(target)
            self._progress.amount("backup", number + 1, len(files), "files")
        snapshot = peers.call(self._spec.index, "index", "POST", f"{peers.BASE}/snapshot", {})
        return {"directory": str(self._directory), "files": kept, "indexSnapshot": snapshot.get("name")}

    def _load(self) -> dict[str, Any]:
        total, upto = self._material.source.kind.count, self._journal.progress("load")
        done = 0
        rows_left = self._material.rows()
        while rows := list(islice(rows_left, _BATCH)):
            done += len(rows)
            if done <= upto:
                continue
            body = {
                "namespace": self._material.staging,
                # What was sent before a crash and not yet written down here is sent again.
                "upsert": True,
                "items": [self._item(row) for row in rows],
            }
            peers.call(self._spec.index, "index", "POST", f"{peers.BASE}/add", body)
            self._journal.advance("load", done)
            self._progress.amount("load", done, total, "vectors")
        return {"namespace": self._material.staging, "items": total}

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
        there = int(peers.stats(spec.index)["namespaces"].get(material.staging, 0))
        if there != material.source.kind.count:
            self._journal.forget("load")
            raise MigrationProblem(
                f"the index holds {there} of {material.source.kind.count} migrated items",
                "somebody else wrote to the namespace of the migration, or items were deleted from it",
                "run it again: it loads them anew",
            )
        found = compare(material, self._progress)
        if not spec.re_embed and found["recall"] < found["sourceRecall"] - spec.recall_loss:
            raise MigrationProblem(
                f"the migrated index finds {found['recall']:.3f} of the true neighbours",
                f"the source finds {found['sourceRecall']:.3f}, and at most {spec.recall_loss} may be lost; "
                "what served before goes on serving",
                "run it again with --re-embed, or allow more with --recall-loss",
            )
        return found

    def _switch(self) -> dict[str, Any]:
        spec = self._spec
        before = int(peers.stats(spec.index)["namespaces"].get(spec.namespace, 0))
        kept = self._material.before if before else None
        self._rename(self._material.staging, kept)
        return {"namespace": spec.namespace, "kept": kept, "itemsBefore": before}

    def _rename(self, source: str, keep: str | None) -> None:
        body = {"from": source, "to": self._spec.namespace, "keep": keep}
        peers.call(self._spec.index, "index", "POST", f"{peers.BASE}/namespaces/rename", body)


def _copy(file: Path, target: Path) -> None:
    fresh = target.with_name(f"{target.name}.new")
    try:
        shutil.copyfile(file, fresh)
        fresh.replace(target)
    except OSError as failure:
        fresh.unlink(missing_ok=True)
        raise MigrationProblem(
            f"{file} cannot be backed up to {target.parent}",
            failure.strerror or str(failure),
            "free space, or give another --backup-dir",
        ) from failure
