"""The writing side of the database: every change, and the log of changes. Used by one thread only."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gpuctl_serving.index.durable.records import Body, Delete, Embed, Op, Prune, Put, Rename
from gpuctl_serving.index.durable.seals import seal_vector
from gpuctl_serving.index.ids import given
from gpuctl_serving.index.rows import PARAMETERS, Rows
from gpuctl_serving.index.schema import is_sealed
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


def taken(namespace: str, what_to_do: str) -> ServiceError:
    """409: a name that has items keeps them."""
    message = f"The namespace {namespace!r} has items. {what_to_do} Nothing was renamed."
    return ServiceError(409, "Conflict", message, reason="conflict")


class Store:
    """Changes within the caller's transaction; what they were is kept in `ops` until it is in the log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.rows = Rows(connection)
        self.ops: list[Op] = []
        self._do = connection.execute

    @property
    def sequence(self) -> int:
        """Number of the last change."""
        row = self._do("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0

    def mark(self) -> tuple[int, tuple[int, int]]:
        """Where the changes stand; for `back`, when a savepoint is rolled back."""
        return len(self.ops), self.rows.sums

    def back(self, mark: tuple[int, tuple[int, int]]) -> None:
        """Forgets the changes since."""
        del self.ops[mark[0] :]
        self.rows.sums = mark[1]

    def body(self) -> Body:
        """The changes of the transaction, as the log holds them."""
        used = {op.ns for op in self.ops if isinstance(op, Put | Embed)}
        names = {
            ns: str(self._do("SELECT name FROM namespaces WHERE ns = ?", (ns,)).fetchone()[0]) for ns in used
        }
        gens = {gen for op in self.ops if isinstance(op, Put) for gen, _ in op.vectors}
        gens |= {op.gen for op in self.ops if isinstance(op, Embed)}
        spaces = {
            gen: (key, dimension)
            for gen, key, dimension in self._do("SELECT gen, key, dimension FROM generations")
            if gen in gens
        }
        return Body(names, spaces, self.ops)

    def forget(self) -> None:
        """The transaction is over, whichever way."""
        self.ops, self.rows.sums = [], (0, 0)

    def add(self, namespace: str, items: Sequence[NewItem], *, upsert: bool) -> tuple[int, int]:
        """Stores all or raises; (added, updated)."""
        ns = self._namespace(namespace)
        known = self._known(ns, [new.id for new in items])
        if known and not upsert:
            raise conflict([new.id for new in items if new.id in known])
        spaces = dict.fromkeys((key, len(vector)) for new in items for key, vector in new.vectors.items())
        gens = {key: self.ensure_generation(key, size).gen for key, size in spaces}
        fresh, number = [], self.rows.last_item()
        replaced = []
        for new in items:
            item = known.get(new.id)
            if item is None:
                number += 1
                fresh.append(_put(number, ns, new, gens))
            else:
                replaced.append(_put(item, ns, new, gens))
        first = self.sequence + 1
        self.rows.put(first, fresh, fresh=True)
        self.rows.put(first + len(fresh), replaced)
        self.ops += fresh
        self.ops += replaced
        return len(fresh), len(replaced)

    def delete(self, namespace: str, ids: Sequence[str]) -> int:
        """Removes what is there; how many that was."""
        row = self._do("SELECT ns FROM namespaces WHERE name = ?", (namespace,)).fetchone()
        if row is None:
            return 0
        return self.delete_items(self._known(row[0], list(dict.fromkeys(ids))).values())

    def delete_items(self, items: Collection[int]) -> int:
        """Removes items that are there, by their numbers; how many."""
        for at, item in enumerate(items, self.sequence + 1):
            self.rows.delete(at, item)
            self.ops.append(Delete(item))
        return len(items)

    def embed(self, generation: Generation, made: Sequence[tuple[int, int, Vectors]]) -> int:
        """Stores (item, sequence, vector) of a generation being built; skips items that changed meanwhile."""
        stored = 0
        for item, sequence, vector in made:
            row = self._do("SELECT sequence, ns FROM items WHERE item = ?", (item,)).fetchone()
            if row is None or row[0] != sequence:
                continue
            op = Embed(item, row[1], sequence, generation.gen, _blob(vector))
            self.rows.embed(self.sequence + 1, op)
            self.ops.append(op)
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
            self.rows.prune(self.sequence + 1, gen)
            self.ops.append(Prune(gen))
        return [key for _, key in dropped]

    def rename(self, source: str, target: str, keep: str | None) -> int:
        """Gives `source` the name `target`, whose own items get the name `keep`; how many items it has."""
        numbers: dict[str, int] = dict(self._do("SELECT name, ns FROM namespaces"))
        if source not in numbers:
            raise ServiceError(404, "NotFound", f"There is no namespace {source!r} here.", param="from")
        if target in numbers and self._size(numbers[target]):
            if keep is None:
                raise taken(target, "Name where its items are to be kept in `keep`.")
            if keep in (source, target) or (keep in numbers and self._size(numbers[keep])):
                raise taken(keep, "Name one in `keep` that is not in use.")
        # Empty ones stand in the way of a name and of nothing else.
        aside = keep or f"~empty-{self.sequence + 1}"
        if keep in numbers:
            self._rename(numbers[keep], f"~empty-{self.sequence + 1}")
        if target in numbers:
            self._rename(numbers[target], aside)
        self._rename(numbers[source], target)
        return self._size(numbers[source])

    def _rename(self, ns: int, name: str) -> None:
        op = Rename(ns, name)
        self.rows.rename(self.sequence + 1, op)
        self.ops.append(op)

    def _size(self, ns: int) -> int:
        return int(self._do("SELECT count(*) FROM items WHERE ns = ?", (ns,)).fetchone()[0])

    def sweep(self, most: int) -> int:
        """Deletes vectors of forgotten generations, a piece at a time; how many."""
        return self.rows.sweep(most)

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

    def all_vectors(self, gen: int, chunk: int = 4096) -> Iterator[list[Change]]:
        """Every current vector of a generation, in chunks. Raises ValueError when one is damaged."""
        crc = "v.crc" if is_sealed(self.connection) else "NULL"
        cursor = self._do(
            f"SELECT v.item, i.ns, v.vector, v.sequence, {crc} FROM vectors v JOIN items i "  # noqa: S608
            "ON i.item = v.item AND i.sequence = v.sequence WHERE v.gen = ?",
            (gen,),
        )
        while rows := cursor.fetchmany(chunk):
            for item, _, vector, sequence, crc in rows:
                if crc is not None and crc != seal_vector(gen, item, sequence, vector):
                    raise ValueError(f"the checksum of the vector of item {item} is wrong")
            yield [Change(item, ns, vector) for item, ns, vector, _, _ in rows]

    def current_vectors(self, gen: int) -> int:
        """Items a generation can find."""
        row = self._do(
            "SELECT count(*) FROM items i JOIN vectors v ON v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence",
            (gen,),
        ).fetchone()
        return int(row[0])

    def _namespace(self, name: str) -> int:
        self._do("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", (name,))
        return int(self._do("SELECT ns FROM namespaces WHERE name = ?", (name,)).fetchone()[0])

    def _known(self, ns: int, names: Sequence[str]) -> dict[str, int]:
        """Numbers of the items that are there under these ids."""
        known: dict[str, int] = {}
        for start in range(0, len(names), PARAMETERS):
            part = names[start : start + PARAMETERS]
            marks = ",".join("?" * len(part))
            sql = f"SELECT id, item FROM items WHERE ns = ? AND id IN ({marks})"  # noqa: S608  marks only
            known.update(self._do(sql, (ns, *part)))
        return known


def _blob(vector: Vectors) -> bytes:
    return vector.astype("<f4").tobytes()


def _put(item: int, ns: int, new: NewItem, gens: dict[str, int]) -> Put:
    vectors = [(gens[key], _blob(vector)) for key, vector in new.vectors.items()]
    return Put(item, ns, new.id, new.text, orjson.dumps(new.metadata).decode(), vectors)
