"""Compares every row with its checksum, and gives checksums to rows that an earlier release wrote."""

import sqlite3

import orjson

from gpuctl_serving.index.durable.seals import seal_item, seal_vector
from gpuctl_serving.index.rows import Rows
from gpuctl_serving.index.schema import scalars

_CHUNK = 2000
_SUM = (1 << 62) - 1


def verify_rows(connection: sqlite3.Connection) -> int:
    """Reads everything and compares; how many rows have no checksum. Raises ValueError with what is wrong.

    Beside each row's own checksum the sums over all rows must be right: pages of different moments, each
    whole, would pass otherwise.
    """
    tail = Rows(connection).tail()
    if tail is None:
        raise ValueError("it does not say where it stands")
    items, postings, unsealed = _items(connection)
    vectors, more = _vectors(connection)
    if items & _SUM != tail.items or vectors & _SUM != tail.vectors:
        raise ValueError("rows are missing, or of different moments")
    if postings != _postings(connection):
        raise ValueError("the filters' rows are not those of the items")
    _log(connection)
    return unsealed + more


def _items(connection: sqlite3.Connection) -> tuple[int, int, int]:
    total = postings = unsealed = 0
    for item, ns, sequence, name, text, metadata, crc in connection.execute(
        "SELECT item, ns, sequence, id, text, metadata, crc FROM items"
    ):
        if crc is None:
            unsealed += 1
        elif crc != seal_item(item, ns, sequence, name, text, metadata):
            raise ValueError(f"the checksum of item {item} is wrong")
        total += crc or 0
        if metadata != "{}":
            postings += sum(hash((ns, key, value, item)) for key, value in scalars(orjson.loads(metadata)))
    return total, postings, unsealed


def _vectors(connection: sqlite3.Connection) -> tuple[int, int]:
    total = unsealed = 0
    for gen, item, sequence, vector, crc in connection.execute(
        "SELECT gen, item, sequence, vector, crc FROM vectors"
    ):
        if crc is None:
            unsealed += 1
        elif crc != seal_vector(gen, item, sequence, vector):
            raise ValueError(f"the checksum of the vector of item {item} is wrong")
        total += crc or 0
    return total, unsealed


def _postings(connection: sqlite3.Connection) -> int:
    return sum(hash(row) for row in connection.execute("SELECT ns, key, value, item FROM postings"))


def _log(connection: sqlite3.Connection) -> None:
    first, last, count = connection.execute(
        "SELECT min(sequence), max(sequence), count(*) FROM log"
    ).fetchone()
    noted = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    if count and (last - first + 1 != count or noted is None or noted[0] != last):
        raise ValueError("its list of changes has gaps")
    numbered = Rows(connection).last_item()
    (highest,) = connection.execute("SELECT coalesce(max(item), 0) FROM items").fetchone()
    if numbered < highest:
        raise ValueError("an item's number is higher than any that was given out")


def reseal(connection: sqlite3.Connection, after: int | None) -> None:
    """Within a transaction: gives a checksum to every row without one, and to those of changes since `after`
    (None: no such changes), whose writer did not know of checksums.
    """
    if after is not None:
        changed = "SELECT item FROM log WHERE sequence > ?"
        for table in ("items", "vectors"):
            connection.execute(f"UPDATE {table} SET crc = NULL WHERE item IN ({changed})", (after,))  # noqa: S608
    while rows := connection.execute(
        "SELECT item, ns, sequence, id, text, metadata FROM items WHERE crc IS NULL LIMIT ?", (_CHUNK,)
    ).fetchall():
        connection.executemany(
            "UPDATE items SET crc = ? WHERE item = ?", [(seal_item(*row), row[0]) for row in rows]
        )
    while rows := connection.execute(
        "SELECT gen, item, sequence, vector FROM vectors WHERE crc IS NULL LIMIT ?", (_CHUNK,)
    ).fetchall():
        connection.executemany(
            "UPDATE vectors SET crc = ? WHERE gen = ? AND item = ?",
            [(seal_vector(*row), row[0], row[1]) for row in rows],
        )


def sums(connection: sqlite3.Connection) -> tuple[int, int]:
    """Sums of the checksums that are there: (items, vectors)."""
    (items,) = connection.execute("SELECT coalesce(sum(crc), 0) FROM items").fetchone()
    (vectors,) = connection.execute("SELECT coalesce(sum(crc), 0) FROM vectors").fetchone()
    return items, vectors
