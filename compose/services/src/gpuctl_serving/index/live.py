"""Log, database and memory as one: load everything, commit in groups, follow. Used by one thread."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.durable.log import AppendLog
from gpuctl_serving.index.durable.records import Body, Delete, Embed, Put, Rename, encode
from gpuctl_serving.index.durable.saved import SavedIndexes
from gpuctl_serving.index.failures import Damaged, write_error
from gpuctl_serving.index.reader import Readers
from gpuctl_serving.index.schema import DATABASE
from gpuctl_serving.index.store import Change, Generation, Store
from gpuctl_serving.index.truth import StoredTruth
from gpuctl_serving.kit.errors import LoadFailed, ServiceError, unavailable
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Changes brought into memory at once: searches wait for no more than this.
_CHUNK = 2000
_TRIM_EVERY = 512
#: A transaction ends after so many changes: what one record of the log holds is in memory at once.
_MOST_CHANGES = 8192

Work = Callable[[Store], Any]


class Outcome(Protocol):
    """Where the result of one change goes (a concurrent future does)."""

    def set_result(self, result: Any) -> None:
        """It is committed and can be found."""

    def set_exception(self, exception: BaseException) -> None:
        """Nothing of it was stored, or nothing was acknowledged."""


class Live:
    """The generation being served, kept equal to the database."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        key: str,
        dimension: int,
        readers: Readers | None = None,
        journal: AppendLog | None = None,
        saved: SavedIndexes | None = None,
    ) -> None:
        self.store = Store(connection)
        #: Open exactly while this instance holds the writer's lock.
        self.journal = journal
        self._saved = saved
        self._readers = readers
        self._key, self._dimension = key, dimension
        self._seen_version = -1
        #: Replaced, never changed in place, so that a search holds a consistent pair.
        self.generation: Generation | None = None
        self.catalog: Catalog | None = None
        self.applied = 0
        self.commits = 0

    @property
    def key(self) -> str:
        """Key of the generation served; empty while nothing decides it."""
        if self._key:
            return self._key
        if self.generation is not None:
            return self.generation.key
        return f"dim:{self._dimension}" if self._dimension else ""

    @property
    def dimension(self) -> int:
        """Dimension of the generation served; 0 while nothing decides it."""
        return self.generation.dimension if self.generation else self._dimension

    def upto(self, catalog: Catalog) -> int:
        """The change up to which a catalog is, at least; -1 when it does not serve any more."""
        applied = self.applied
        return applied if self.catalog is catalog else -1

    def load(self) -> None:
        """Builds the copy in memory from the database. Raises LoadFailed when the two cannot agree."""
        do = self.store.connection.execute
        do("BEGIN")
        try:
            self._seen_version = int(do("PRAGMA data_version").fetchone()[0])
            generation = self._find_generation()
            catalog = self._catalog_of(generation) if generation else None
            applied = self.store.sequence
            if generation is not None and catalog is not None:
                saved = self._from_saved(generation, catalog)
                if saved is None:
                    for changes in self.store.all_vectors(generation.gen):
                        catalog.apply(changes)
                else:
                    applied = saved
        except (ValueError, TypeError, sqlite3.Error) as wrong:
            raise Damaged(Path(DATABASE), str(wrong)) from wrong
        finally:
            do("ROLLBACK")
        self.catalog, self.generation, self.applied = catalog, generation, applied

    def _from_saved(self, generation: Generation, catalog: Catalog) -> int | None:
        """Reads a snapshot's index instead of every vector; up to which change. None when there is none."""
        saved, self._saved = self._saved, None
        found = saved.find(self.store, generation) if saved else None
        if saved is None or found is None:
            return None
        directory, sequence = found
        try:
            catalog.load(directory)
            while (part := self.store.changes(sequence, _CHUNK, generation.gen)) is not None and part[0]:
                catalog.apply(part[0])
                sequence = part[1]
            if part is None or len(catalog) != self.store.current_vectors(generation.gen):
                raise ValueError("it does not lead to what the database holds")
        except (ValueError, OSError) as wrong:
            saved.refuse(directory, str(wrong))
            catalog.apply(
                [
                    Change(item, None, None)
                    for index in catalog.indexes.values()
                    for item in index.items().tolist()
                ]
            )
            return None
        log.info("saved-index-loaded", snapshot=str(directory), sequence=sequence)
        return sequence

    def _catalog_of(self, generation: Generation) -> Catalog:
        """An empty catalog that can ask the database for true vectors."""
        if self._readers is None:
            return Catalog(generation.dimension)
        return Catalog(generation.dimension, StoredTruth(self._readers, generation.gen, generation.dimension))

    def _find_generation(self) -> Generation | None:
        if not self._key:
            return self.store.unnamed_generation(self._dimension)
        found = self.store.generation(self._key)
        if found and self._dimension and found.dimension != self._dimension:
            raise LoadFailed(
                f"The index holds generation {self._key!r} with {found.dimension} dimensions, but the "
                f"settings say {self._dimension}. Unset GPUCTL_INDEX_DIMENSION, or give the new model's "
                "generation key."
            )
        return found

    def changed_elsewhere(self) -> bool:
        """Whether another process committed since this was last asked."""
        version = int(self.store.connection.execute("PRAGMA data_version").fetchone()[0])
        changed, self._seen_version = version != self._seen_version, version
        return changed

    def catch_up(self) -> None:
        """Brings memory up to the last commit."""
        while self.applied < (last := self.store.sequence) or self.generation is None:
            if self.generation is None or self.catalog is None:
                if self._find_generation() is None:
                    self.applied = last
                    return
                self.load()
                continue
            found = self._changes(self.generation.gen)
            if found is None:
                log.info("index-reloaded", detail="the log does not reach back to what is in memory")
                self.load()
                return
            changes, upto = found
            self.catalog.apply(changes)
            self.applied = upto

    def _changes(self, gen: int) -> tuple[list[Change], int] | None:
        # One transaction: a row of the log and the state it speaks of must be of the same moment.
        self.store.connection.execute("BEGIN")
        try:
            return self.store.changes(self.applied, _CHUNK, gen)
        finally:
            self.store.connection.execute("ROLLBACK")

    def commit(self, group: Sequence[tuple[Work, Outcome]]) -> None:
        """Runs all in few transactions, each all-or-nothing; answers what is on disk and in memory."""
        left = list(group)
        while left:
            try:
                results, body, taken = self._transact(left)
            except Exception as failure:
                log.warning("commit-failed", reason=str(failure), changes=len(left))
                if len(left) == 1:
                    left[0][1].set_exception(write_error(failure))
                    return
                # Whichever of them is to blame must not fail the others.
                for one in left:
                    self.commit([one])
                return
            left = left[taken:]
            self._answer(results, body)

    def _transact(
        self, group: Sequence[tuple[Work, Outcome]]
    ) -> tuple[list[tuple[Outcome, Any]], Body | None, int]:
        """One transaction of as many as fit: (their results, what changed, how many)."""
        do, store = self.store.connection.execute, self.store
        if self.journal is None:
            raise unavailable("This instance is not the writer any more. Nothing was stored; send it again.")
        self.journal.check()
        results: list[tuple[Outcome, Any]] = []
        undo: Callable[[], None] | None = None
        do("BEGIN IMMEDIATE")
        try:
            for work, outcome in group:
                results.append((outcome, self._run(work)))
                if len(store.ops) >= _MOST_CHANGES:
                    break
            if self.commits % _TRIM_EVERY == _TRIM_EVERY - 1:
                store.trim_log()
            body, at = store.body() if store.ops else None, self.journal.at
            if body is not None:
                record = self.journal.frame(store.sequence, encode(body))
                store.rows.write_tail(at.line, record.last, record.crc)
                # In the log, and on disk there, before it is in the database.
                undo = self.journal.append(record)
            elif store.rows.sums != (0, 0):
                store.rows.write_tail(at.line, at.sequence, at.crc)
            do("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if store.connection.in_transaction:
                do("ROLLBACK")
            if undo is not None:
                undo()
            raise
        finally:
            store.forget()
        self.commits += 1
        return results, body, len(results)

    def _run(self, work: Work) -> Any:
        """A change within the transaction: its result, or the refusal that undid it."""
        do, mark = self.store.connection.execute, self.store.mark()
        do("SAVEPOINT one")
        try:
            result = work(self.store)
        except ServiceError as refused:
            do("ROLLBACK TO one")
            self.store.back(mark)
            result = refused
        do("RELEASE one")
        return result

    def _answer(self, results: list[tuple[Outcome, Any]], body: Body | None) -> None:
        try:
            if body is None or not self._apply(body):
                self.catch_up()
        except Exception as failure:
            log.error("memory-behind", reason=str(failure))
            for outcome, _ in results:
                outcome.set_exception(
                    unavailable("Stored, but the copy in memory could not follow. Restart the index.", 5)
                )
            return
        for outcome, result in results:
            if isinstance(result, ServiceError):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)

    def _apply(self, body: Body) -> bool:
        """Brings what was just committed into memory; False when that takes a look at the database."""
        if self.generation is None or self.catalog is None or self.journal is None:
            return False
        if self.applied + len(body.ops) != self.journal.at.sequence:
            return False
        gen, changes = self.generation.gen, dict[int, Change]()
        for op in body.ops:
            if isinstance(op, Put):
                vector = next((blob for own, blob in op.vectors if own == gen), None)
                changes[op.item] = Change(op.item, op.ns if vector else None, vector)
            elif isinstance(op, Delete):
                changes[op.item] = Change(op.item, None, None)
            elif isinstance(op, Embed):
                if op.gen == gen:
                    changes[op.item] = Change(op.item, op.ns, op.vector)
            elif not isinstance(op, Rename):
                return False
        told = list(changes.values())
        for start in range(0, len(told), _CHUNK):
            self.catalog.apply(told[start : start + _CHUNK])
        self.applied = self.journal.at.sequence
        return True
