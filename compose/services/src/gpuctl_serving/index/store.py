"""The writing side of the database: every change, and the log of changes. Used by one thread only."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from gpuctl_serving.index.ids import given
from gpuctl_serving.index.schema import scalars
from gpuctl_serving.index.vectors import Vectors, mismatch
from gpuctl_serving.kit.errors import ServiceError

#: Rows of the log that are kept; a follower further behind reads everything anew.
KEPT_LOG = 200_000


@dataclass(frozen=True)
class Generation:
    """One embedding space."""

    gen: int
    key: str
    dimension: int


@dataclass(frozen=True)
class NewItem:
    """What an add stores for one id."""

    id: str
    text: str | None
    metadata: dict[str, Any]
    #: Generation key -> unit vector. One, or two when an instance of another generation passed it on.
    vectors: dict[str, Vectors] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What one item is now in the generation asked for; no vector means: not to be found there."""

    item: int
    ns: int | None
    vector: bytes | None


def conflict(ids: Sequence[str]) -> ServiceError:
    """409: adds without `upsert` never replace."""
    named = ", ".join(repr(given(one)) for one in ids[:5]) + (
        f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    )
    return ServiceError(
        409,
        "Conflict",
        f'Already in this namespace: {named}. Nothing was added. Send `"upsert": true` to replace.',
        param="items",
        reason="conflict",
    )


class Store:
    """Changes within the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._do = connection.execute

    @property
    def sequence(self) -> int:
        """Number of the last change."""
        row = self._do("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0

    def add(self, namespace: str, items: Sequence[NewItem], *, upsert: bool) -> tuple[int, int]:
        """Stores all or raises; (added, updated)."""
        ns = self._namespace(namespace)
        known = {new.id: self._find(ns, new.id) for new in items}
        taken = [name for name, item in known.items() if item is not None]
        if taken and not upsert:
            raise conflict(taken)
        for new in items:
            self._put(ns, known[new.id], new)
        return len(items) - len(taken), len(taken)

    def _put(self, ns: int, item: int | None, new: NewItem) -> None:
        metadata = orjson.dumps(new.metadata).decode()
        if item is None:
            row = self._do(
                "INSERT INTO items (ns, id, text, metadata, sequence) VALUES (?, ?, ?, ?, 0) RETURNING item",
                (ns, new.id, new.text, metadata),
            ).fetchone()
            item = int(row[0])
        sequence = self._log("put", item)
        self._do(
            "UPDATE items SET text = ?, metadata = ?, sequence = ? WHERE item = ?",
            (new.text, metadata, sequence, item),
        )
        self._do("DELETE FROM postings WHERE item = ?", (item,))
        self.connection.executemany(
            "INSERT INTO postings (ns, key, value, item) VALUES (?, ?, ?, ?)",
            [(ns, key, value, item) for key, value in scalars(new.metadata)],
        )
        for key, vector in new.vectors.items():
            generation = self.ensure_generation(key, len(vector))
            self._put_vector(generation.gen, item, sequence, vector)

    def _put_vector(self, gen: int, item: int, sequence: int, vector: Vectors) -> None:
        self._do(
            "INSERT OR REPLACE INTO vectors (gen, item, sequence, vector) VALUES (?, ?, ?, ?)",
            (gen, item, sequence, vector.astype("<f4").tobytes()),
        )

    def delete(self, namespace: str, ids: Sequence[str]) -> int:
        """Removes what is there; how many that was."""
        row = self._do("SELECT ns FROM namespaces WHERE name = ?", (namespace,)).fetchone()
        if row is None:
            return 0
        found = [item for one in dict.fromkeys(ids) if (item := self._find(row[0], one)) is not None]
        for item in found:
            for table in ("vectors", "postings", "items"):
                self._do(f"DELETE FROM {table} WHERE item = ?", (item,))  # noqa: S608  the names are above
            self._log("delete", item)
        return len(found)

    def embed(self, generation: Generation, made: Sequence[tuple[int, int, Vectors]]) -> int:
        """Stores (item, sequence, vector) of a generation being built; skips items that changed meanwhile."""
        stored = 0
        for item, sequence, vector in made:
            row = self._do("SELECT sequence FROM items WHERE item = ?", (item,)).fetchone()
            if row is None or row[0] != sequence:
                continue
            self._put_vector(generation.gen, item, sequence, vector)
            self._log("embed", item, generation.gen)
            stored += 1
        return stored

    def generation(self, key: str) -> Generation | None:
        """The generation of that key, if it is there."""
        row = self._do("SELECT gen, key, dimension FROM generations WHERE key = ?", (key,)).fetchone()
        return Generation(*row) if row else None

    def unnamed_generation(self, dimension: int) -> Generation | None:
        """The newest `dim:<n>` generation (of that dimension unless it is 0): served when no key is set."""
        row = self._do(
            "SELECT gen, key, dimension FROM generations WHERE key LIKE 'dim:%' AND ? IN (0, dimension) "
            "ORDER BY gen DESC LIMIT 1",
            (dimension,),
        ).fetchone()
        return Generation(*row) if row else None

    def ensure_generation(self, key: str, dimension: int) -> Generation:
        """The generation, made when it is new. 422 when it exists with another dimension."""
        found = self.generation(key)
        if found is None:
            self._do("INSERT INTO generations (key, dimension) VALUES (?, ?)", (key, dimension))
            found = self.generation(key)
            assert found is not None  # noqa: S101  inserted in this transaction
        if found.dimension != dimension:
            raise mismatch("the vector", dimension, found.dimension, key)
        return found

    def prune(self, keep: Sequence[str]) -> list[str]:
        """Forgets every generation not named; the keys forgotten. `sweep` then frees their vectors."""
        rows = self._do("SELECT gen, key FROM generations").fetchall()
        dropped = [(gen, key) for gen, key in rows if key not in keep]
        for gen, _ in dropped:
            self._do("DELETE FROM generations WHERE gen = ?", (gen,))
            self._log("prune", None, gen)
        return [key for _, key in dropped]

    def sweep(self, most: int) -> int:
        """Deletes vectors of forgotten generations, a piece at a time; how many."""
        return self._do(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors "
            "WHERE gen NOT IN (SELECT gen FROM generations) LIMIT ?)",
            (most,),
        ).rowcount

    def trim_log(self) -> None:
        """Forgets changes every follower has seen long ago."""
        self._do("DELETE FROM log WHERE sequence <= ?", (self.sequence - KEPT_LOG,))

    def changes(self, after: int, limit: int, gen: int) -> tuple[list[Change], int] | None:
        """What changed after a sequence, and up to which; None when the log does not reach back so far."""
        rows = self._do(
            "SELECT sequence, item, gen FROM log WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
        ).fetchall()
        if not rows:
            return ([], after) if self.sequence <= after else None
        if rows[0][0] != after + 1 or any(item is None and at == gen for _, item, at in rows):
            return None
        items = dict.fromkeys(item for _, item, at in rows if item is not None and at in (None, gen))
        return [self._state(item, gen) for item in items], int(rows[-1][0])

    def _state(self, item: int, gen: int) -> Change:
        row = self._do(
            "SELECT i.ns, v.vector FROM items i JOIN vectors v ON v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence WHERE i.item = ?",
            (gen, item),
        ).fetchone()
        return Change(item, row[0], row[1]) if row else Change(item, None, None)

    def all_vectors(self, gen: int, chunk: int = 4096) -> Iterator[list[tuple[int, int, bytes]]]:
        """(item, ns, vector) of every current vector of a generation, in chunks."""
        cursor = self._do(
            "SELECT v.item, i.ns, v.vector FROM vectors v JOIN items i ON i.item = v.item "
            "AND i.sequence = v.sequence WHERE v.gen = ?",
            (gen,),
        )
        while rows := cursor.fetchmany(chunk):
            yield rows

    def _namespace(self, name: str) -> int:
        self._do("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", (name,))
        return int(self._do("SELECT ns FROM namespaces WHERE name = ?", (name,)).fetchone()[0])

    def _find(self, ns: int, name: str) -> int | None:
        row = self._do("SELECT item FROM items WHERE ns = ? AND id = ?", (ns, name)).fetchone()
        return int(row[0]) if row else None

    def _log(self, op: str, item: int | None, gen: int | None = None) -> int:
        return int(
            self._do("INSERT INTO log (op, item, gen) VALUES (?, ?, ?)", (op, item, gen)).lastrowid or 0
        )


def as_matrix(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """Stored vectors as rows. Raises ValueError when one cannot be what was stored."""
    raw = b"".join(blobs)
    if any(len(blob) != dimension * 4 for blob in blobs):
        raise ValueError(f"a stored vector does not have {dimension} dimensions")
    rows = np.frombuffer(raw, dtype="<f4").reshape(len(blobs), dimension)
    lengths = np.einsum("ij,ij->i", rows, rows)
    if not np.all(np.abs(lengths - 1.0) < 1e-3):
        raise ValueError("a stored vector does not have length one")
    return rows
