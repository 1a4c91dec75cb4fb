"""Database and memory as one: load everything, commit in groups, follow the log. Used by one thread."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gpuctl_serving.index.catalog import Catalog
from gpuctl_serving.index.reader import Readers
from gpuctl_serving.index.schema import DATABASE, request_error
from gpuctl_serving.index.store import Change, Generation, Store
from gpuctl_serving.index.truth import StoredTruth
from gpuctl_serving.kit.errors import LoadFailed, ServiceError, unavailable
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Changes brought into memory at once: searches wait for no more than this.
_CHUNK = 2000
_TRIM_EVERY = 512

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
        self, connection: sqlite3.Connection, key: str, dimension: int, readers: Readers | None = None
    ) -> None:
        self.store = Store(connection)
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

    def load(self) -> None:
        """Builds the copy in memory from the database. Raises LoadFailed when the two cannot agree."""
        do = self.store.connection.execute
        do("BEGIN")
        try:
            self._seen_version = int(do("PRAGMA data_version").fetchone()[0])
            generation = self._find_generation()
            catalog = self._catalog_of(generation) if generation else None
            if generation is not None and catalog is not None:
                for rows in self.store.all_vectors(generation.gen):
                    catalog.apply([Change(item, ns, vector) for item, ns, vector in rows])
            applied = self.store.sequence
        except (ValueError, sqlite3.Error) as wrong:
            raise LoadFailed(
                f"The index database {DATABASE} is damaged ({wrong}). Move it aside and restore a backup, "
                "or index the documents again with `gpuctl index add`."
            ) from wrong
        finally:
            do("ROLLBACK")
        self.catalog, self.generation, self.applied = catalog, generation, applied

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
        """Runs all in one transaction, each all-or-nothing; answers them once it is on disk and in memory."""
        try:
            results = self._transact(group)
        except Exception as failure:
            log.warning("commit-failed", reason=str(failure), changes=len(group))
            if len(group) == 1:
                group[0][1].set_exception(
                    request_error(failure) if isinstance(failure, sqlite3.Error) else failure
                )
                return
            # Whichever of them is to blame must not fail the others.
            for one in group:
                self.commit([one])
            return
        self._answer(results)

    def _transact(self, group: Sequence[tuple[Work, Outcome]]) -> list[tuple[Outcome, Any]]:
        do = self.store.connection.execute
        results: list[tuple[Outcome, Any]] = []
        do("BEGIN IMMEDIATE")
        try:
            for work, outcome in group:
                do("SAVEPOINT one")
                try:
                    results.append((outcome, work(self.store)))
                except ServiceError as refused:
                    do("ROLLBACK TO one")
                    results.append((outcome, refused))
                do("RELEASE one")
            if self.commits % _TRIM_EVERY == _TRIM_EVERY - 1:
                self.store.trim_log()
            do("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if self.store.connection.in_transaction:
                do("ROLLBACK")
            raise
        self.commits += 1
        return results

    def _answer(self, results: list[tuple[Outcome, Any]]) -> None:
        try:
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
