"""The reading side of the database: snapshots for searches, counts, and what a generation lacks."""

import queue
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gpuctl_serving.index.durable.seals import seal_item, seal_vector
from gpuctl_serving.index.schema import connect, is_sealed, posting
from gpuctl_serving.index.store import Generation
from gpuctl_serving.kit.errors import ServiceError, unavailable

#: SQLite takes this many parameters in one statement on every build.
_PARAMETERS = 900


@dataclass(frozen=True)
class Document:
    """What is stored for an item."""

    id: str
    text: str | None
    metadata: dict[str, Any]
    sequence: int


@dataclass(frozen=True)
class Missing:
    """An item whose text a generation has no current vector for."""

    item: int
    sequence: int
    text: str


class Readers:
    """Connections for reading, lent to one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._idle: queue.SimpleQueue[tuple[sqlite3.Connection, bool]] = queue.SimpleQueue()

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """One consistent view of everything committed."""
        try:
            connection, sealed = self._idle.get_nowait()
        except queue.Empty:
            connection = connect(self._directory, writable=False)
            sealed = is_sealed(connection)
        try:
            connection.execute("BEGIN")
            yield Snapshot(connection, sealed=sealed)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._idle.put((connection, sealed))

    def close(self) -> None:
        """Closes the idle connections."""
        while not self._idle.empty():
            self._idle.get_nowait()[0].close()


class Snapshot:
    """Queries within one read transaction."""

    def __init__(self, connection: sqlite3.Connection, *, sealed: bool) -> None:
        self._do = connection.execute
        #: A database that an earlier release still writes has no checksums.
        self._row = f"i.item, i.ns, i.sequence, i.id, i.text, i.metadata, {'i.crc' if sealed else 'NULL'}"
        self._vector = f"v.item, v.vector, v.sequence, {'v.crc' if sealed else 'NULL'}"

    def namespace(self, name: str) -> int | None:
        """Number of a namespace, if anything was ever added to it."""
        row = self._do("SELECT ns FROM namespaces WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else None

    def matching(self, ns: int, wanted: dict[str, Any], among: Sequence[int] | None = None) -> list[int]:
        """Items whose metadata equals the filter in every key; a list there means any of its values."""
        found: set[int] | None = None if among is None else set(among)
        few: list[Sequence[int] | None] = [None] if among is None else list(_parts(among))
        for key, value in wanted.items():
            values = sorted({posting(one) for one in (value if isinstance(value, list) else [value])})
            rows: set[int] = set()
            for part in _parts(values):
                for some in few:
                    rows.update(self._posted(ns, key, part, some))
            found = rows if found is None else found & rows
            if not found:
                return []
        return sorted(found or ())

    def _posted(self, ns: int, key: str, values: Sequence[str], among: Sequence[int] | None) -> Iterator[int]:
        marks = ",".join("?" * len(values))
        sql = f"SELECT item FROM postings WHERE ns = ? AND key = ? AND value IN ({marks})"  # noqa: S608  marks only
        if among is not None:
            sql += f" AND item IN ({','.join('?' * len(among))})"
        return (row[0] for row in self._do(sql, (ns, key, *values, *(among or ()))))

    def texts(self, ns: int, key: str, prefix: str) -> list[str]:
        """The different texts that items have under a key and that begin so, in order."""
        start = posting(prefix)[:-1]
        rows = self._do(
            "SELECT DISTINCT value FROM postings WHERE ns = ? AND key = ? AND value >= ? "
            "AND substr(value, 1, ?) = ?",
            (ns, key, start, len(start), start),
        )
        return sorted(orjson.loads(value) for (value,) in rows)

    def numbers(self, ns: int, names: Sequence[str]) -> list[int]:
        """Numbers of the items that are there under these ids."""
        found: list[int] = []
        for part in _parts(sorted(set(names))):
            marks = ",".join("?" * len(part))
            sql = f"SELECT item FROM items WHERE ns = ? AND id IN ({marks})"  # noqa: S608  marks only
            found.extend(row[0] for row in self._do(sql, (ns, *part)))
        return found

    def documents(self, items: Sequence[int]) -> dict[int, Document]:
        """The items that are still there."""
        found = {}
        for part in _parts(items):
            marks = ",".join("?" * len(part))
            sql = f"SELECT {self._row} FROM items i WHERE i.item IN ({marks})"  # noqa: S608  marks only
            for row in self._do(sql, tuple(part)):
                found[row[0]] = _document(row)
        return found

    def names(self, items: Sequence[int]) -> dict[int, str]:
        """Ids of the items that are still there.

        As one row: between rows Python's lock changes hands, and with many searches each change is a wait.
        """
        found: dict[int, str] = {}
        for part in _parts(items):
            marks = ",".join("?" * len(part))
            # Ids are printable, so none holds a line's end.
            columns = "group_concat(item, ' '), group_concat(id, char(10))"
            sql = f"SELECT {columns} FROM items WHERE item IN ({marks})"  # noqa: S608  marks only
            numbers, names = self._do(sql, tuple(part)).fetchone()
            if numbers is not None:
                found.update(zip(map(int, str(numbers).split()), names.split("\n"), strict=True))
        return found

    def columns(self, items: Sequence[int], columns: Sequence[str]) -> dict[int, tuple[Any, ...]]:
        """Id and these columns of the items that are still there. 503 when one is not what was stored."""
        found = {}
        names = f"{', '.join(f'i.{name}' for name in ('item', 'id', *columns))}"
        for part in _parts(items):
            marks = ",".join("?" * len(part))
            # One column alone cannot be compared: the checksum is that of the row.
            wanted = f"{names}, {self._row}" if columns else names
            sql = f"SELECT {wanted} FROM items i WHERE i.item IN ({marks})"  # noqa: S608  names of ours
            for item, *values in self._do(sql, tuple(part)):
                if columns:
                    _check(tuple(values[len(columns) + 1 :]))
                found[item] = tuple(values[: len(columns) + 1])
        return found

    def document(self, namespace: str, name: str) -> Document | None:
        """One item by its id."""
        sql = (
            f"SELECT {self._row} FROM items i JOIN namespaces n ON n.ns = i.ns WHERE n.name = ? AND i.id = ?"  # noqa: S608
        )
        row = self._do(sql, (namespace, name)).fetchone()
        return _document(row) if row else None

    def sequence(self) -> int:
        """Number of the last change."""
        row = self._do("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0

    def namespaces(self) -> dict[int, str]:
        """Number -> name."""
        return dict(self._do("SELECT ns, name FROM namespaces").fetchall())

    def counts(self) -> dict[str, int]:
        """Items by namespace."""
        rows = self._do(
            "SELECT n.name, (SELECT count(*) FROM items i WHERE i.ns = n.ns) FROM namespaces n ORDER BY 1"
        )
        return {name: count for name, count in rows if count}

    def generations(self) -> list[Generation]:
        """Every generation, oldest first."""
        return [
            Generation(*row) for row in self._do("SELECT gen, key, dimension FROM generations ORDER BY gen")
        ]

    def current_vectors(self, gen: int) -> int:
        """Items a generation can find."""
        row = self._do(
            "SELECT count(*) FROM items i JOIN vectors v ON v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence",
            (gen,),
        ).fetchone()
        return int(row[0])

    def lacking(self, gen: int) -> tuple[int, int]:
        """(items with a text, items without one) that a generation has no current vector for."""
        row = self._do(
            "SELECT coalesce(sum(coalesce(i.text, '') <> ''), 0), "
            "coalesce(sum(coalesce(i.text, '') = ''), 0) "
            "FROM items i WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence)",
            (gen,),
        ).fetchone()
        return int(row[0]), int(row[1])

    def missing(self, gen: int, after: int, limit: int) -> list[Missing]:
        """The next items to embed, by their number."""
        rows = self._do(
            "SELECT i.item, i.sequence, i.text FROM items i WHERE i.item > ? AND coalesce(i.text, '') <> '' "
            "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence) ORDER BY i.item LIMIT ?",
            (after, gen, limit),
        )
        return [Missing(*row) for row in rows]

    def newest_vector(self, gen: int, upto: int) -> tuple[int, bytes] | None:
        """(ns, vector) of the last item written up to a sequence that a generation can find."""
        row = self._do(
            "SELECT i.ns, v.vector FROM items i JOIN vectors v ON v.gen = ? AND v.item = i.item "
            "AND v.sequence = i.sequence WHERE i.sequence <= ? ORDER BY i.item DESC LIMIT 1",
            (gen, upto),
        ).fetchone()
        return (int(row[0]), bytes(row[1])) if row else None

    def vectors(self, gen: int, items: Sequence[int]) -> list[tuple[int, bytes]]:
        """(item, vector) of those among the items that a generation can find."""
        found: list[tuple[int, bytes]] = []
        for part in _parts(items):
            marks = ",".join("?" * len(part))
            sql = (
                f"SELECT {self._vector} FROM vectors v JOIN items i ON i.item = v.item "  # noqa: S608
                f"AND i.sequence = v.sequence WHERE v.gen = ? AND v.item IN ({marks})"
            )
            found += [_vector(gen, row) for row in self._do(sql, (gen, *part))]
        return found

    def vectors_after(self, gen: int, ns: int, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next (item, vector) of a namespace that a generation can find, by item."""
        rows = self._do(
            f"SELECT {self._vector} FROM vectors v JOIN items i ON i.item = v.item "  # noqa: S608  names of ours
            "AND i.sequence = v.sequence WHERE v.gen = ? AND v.item > ? AND i.ns = ? ORDER BY v.item LIMIT ?",
            (gen, after, ns, limit),
        )
        return [_vector(gen, row) for row in rows]

    def database_bytes(self) -> int:
        """Size of the database without its write-ahead log."""
        pages = self._do("PRAGMA page_count").fetchone()[0]
        return int(pages * self._do("PRAGMA page_size").fetchone()[0])


def _check(row: tuple[Any, ...]) -> None:
    """503 when a row's checksum says that it is not what was stored."""
    if row[6] is not None and row[6] != seal_item(*row[:6]):
        raise _damaged(f"Item {row[0]}")


def _vector(gen: int, row: tuple[int, bytes, int, int | None]) -> tuple[int, bytes]:
    """(item, vector). 503 when the checksum says that it is not what was stored."""
    item, vector, sequence, crc = row
    if crc is not None and crc != seal_vector(gen, item, sequence, vector):
        raise _damaged(f"The vector of item {item}")
    return item, vector


def _damaged(what: str) -> ServiceError:
    return unavailable(
        f"{what} of the index is damaged on disk, and is not served. Restart the index: it makes its "
        "database again from a snapshot and the log at start.",
        30,
    )


def _document(row: tuple[int, int, int, str, str | None, str, int | None]) -> Document:
    _check(row)
    _, _, sequence, name, text, metadata, _ = row
    return Document(name, text, orjson.loads(metadata), sequence)


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _PARAMETERS):
        yield values[start : start + _PARAMETERS]
