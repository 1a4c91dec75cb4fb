"""Changes as rows of the tables: the one place that writes them, for a commit and for a replay alike."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gpuctl_serving.index.durable.records import Body, Delete, Embed, Line, Op, Prune, Put, Rename
from gpuctl_serving.index.durable.seals import seal_item, seal_vector
from gpuctl_serving.index.schema import scalars

#: SQLite takes this many parameters in one statement on every build.
PARAMETERS = 900
_SUM = (1 << 62) - 1


@dataclass(frozen=True)
class Tail:
    """Where the database stands beside the log, and the sums of its rows' checksums."""

    line: Line
    sequence: int
    crc: int
    items: int
    vectors: int


class Rows:
    """Writes within the caller's transaction. Every change gets the sequence number it is given."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._do = connection.execute
        #: What the sums of checksums grew by since `tail` was written.
        self.sums = (0, 0)

    def apply(self, first: int, body: Body) -> None:
        """A record's changes, numbered from `first`."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO namespaces (ns, name) VALUES (?, ?)", sorted(body.namespaces.items())
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO generations (gen, key, dimension) VALUES (?, ?, ?)",
            [(gen, *space) for gen, space in sorted(body.generations.items())],
        )
        puts: list[Put] = []
        for at, op in enumerate(body.ops):
            if isinstance(op, Put):
                puts.append(op)
                continue
            self.put(first + at - len(puts), puts)
            puts = []
            self._one(first + at, op)
        self.put(first + len(body.ops) - len(puts), puts)

    def _one(self, sequence: int, op: Op) -> None:
        if isinstance(op, Delete):
            self.delete(sequence, op.item)
        elif isinstance(op, Embed):
            self.embed(sequence, op)
        elif isinstance(op, Prune):
            self.prune(sequence, op.gen)
        elif isinstance(op, Rename):
            self.rename(sequence, op)

    def put(self, first: int, puts: Sequence[Put], *, fresh: bool = False) -> None:
        """Adds or replaces items; `fresh` promises that none of them is there. One item only once."""
        if len({put.item for put in puts}) < len(puts):
            for at, put in enumerate(puts):
                self.put(first + at, [put])
            return
        if not puts:
            return
        many, numbered = self._connection.executemany, list(enumerate(puts, first))
        if not fresh:
            self._forget([put.item for put in puts], [gen for put in puts for gen, _ in put.vectors])
        sealed = [
            (put.item, put.ns, put.id, put.text, put.metadata, at,
             seal_item(put.item, put.ns, at, put.id, put.text, put.metadata))
            for at, put in numbered
        ]  # fmt: skip
        many(
            "INSERT INTO items (item, ns, id, text, metadata, sequence, crc) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (item) DO UPDATE SET text = excluded.text, metadata = excluded.metadata, "
            "sequence = excluded.sequence, crc = excluded.crc",
            sealed,
        )
        many(
            "INSERT INTO postings (ns, key, value, item) VALUES (?, ?, ?, ?)",
            [
                (put.ns, key, value, put.item)
                for put in puts
                if put.metadata != "{}"
                for key, value in scalars(orjson.loads(put.metadata))
            ],
        )
        vectors = [
            (gen, put.item, at, blob, seal_vector(gen, put.item, at, blob))
            for at, put in numbered
            for gen, blob in put.vectors
        ]
        self._vectors(vectors)
        many(
            "INSERT INTO log (sequence, op, item) VALUES (?, 'put', ?)",
            [(at, put.item) for at, put in numbered],
        )
        self._grow(sum(row[6] for row in sealed), sum(row[4] for row in vectors))

    def delete(self, sequence: int, item: int) -> None:
        """Removes an item with everything of it."""
        self._forget([item], None)
        for table in ("vectors", "items"):
            self._do(f"DELETE FROM {table} WHERE item = ?", (item,))  # noqa: S608  the names are above
        self._do("INSERT INTO log (sequence, op, item) VALUES (?, 'delete', ?)", (sequence, item))

    def embed(self, sequence: int, op: Embed) -> None:
        """Gives an item its vector in another generation."""
        row = self._do("SELECT crc FROM vectors WHERE gen = ? AND item = ?", (op.gen, op.item)).fetchone()
        crc = seal_vector(op.gen, op.item, op.sequence, op.vector)
        self._vectors([(op.gen, op.item, op.sequence, op.vector, crc)])
        self._do(
            "INSERT INTO log (sequence, op, item, gen) VALUES (?, 'embed', ?, ?)", (sequence, op.item, op.gen)
        )
        self._grow(0, crc - (row[0] or 0 if row else 0))

    def prune(self, sequence: int, gen: int) -> None:
        """Forgets a generation; its vectors go by `sweep`."""
        self._do("DELETE FROM generations WHERE gen = ?", (gen,))
        self._do("INSERT INTO log (sequence, op, gen) VALUES (?, 'prune', ?)", (sequence, gen))

    def rename(self, sequence: int, op: Rename) -> None:
        """Gives a namespace another name, which must be free."""
        # A replay may not know the namespace yet: the record that filled it already names it so.
        self._do(
            "INSERT INTO namespaces (ns, name) VALUES (?, ?) "
            "ON CONFLICT (ns) DO UPDATE SET name = excluded.name",
            (op.ns, op.name),
        )
        self._do("INSERT INTO log (sequence, op) VALUES (?, 'rename')", (sequence,))

    def sweep(self, most: int) -> int:
        """Deletes vectors of forgotten generations, a piece at a time; how many."""
        rows = self._do(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors "
            "WHERE gen NOT IN (SELECT gen FROM generations) LIMIT ?) RETURNING crc",
            (most,),
        ).fetchall()
        self._grow(0, -sum(crc or 0 for (crc,) in rows))
        return len(rows)

    def tail(self) -> Tail | None:
        """Where the database stands; None while nobody wrote that."""
        row = self._do("SELECT line, sequence, crc, items, vectors FROM tail").fetchone()
        return Tail(*row) if row else None

    def write_tail(self, line: Line, sequence: int, crc: int) -> None:
        """Notes in the database what the log holds of it."""
        items, vectors = self.sums
        self._do(
            "INSERT INTO tail (one, line, sequence, crc, items, vectors) VALUES (1, ?, ?, ?, ?, ?) "
            "ON CONFLICT (one) DO UPDATE SET line = excluded.line, sequence = excluded.sequence, "
            "crc = excluded.crc, items = (items + excluded.items) & ?6, "
            "vectors = (vectors + excluded.vectors) & ?6",
            (line, sequence, crc, items & _SUM, vectors & _SUM, _SUM),
        )
        self.sums = (0, 0)

    def last_item(self) -> int:
        """The highest number an item ever had."""
        row = self._do("SELECT seq FROM sqlite_sequence WHERE name = 'items'").fetchone()
        return int(row[0]) if row else 0

    def _vectors(self, rows: Sequence[tuple[int, int, int, bytes, int]]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO vectors (gen, item, sequence, vector, crc) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _forget(self, items: Sequence[int], gens: Sequence[int] | None) -> None:
        """Takes what these items have out of the sums, and their postings out of the table."""
        replaced = None if gens is None else set(gens)
        for start in range(0, len(items), PARAMETERS):
            part = tuple(items[start : start + PARAMETERS])
            marks = ",".join("?" * len(part))
            old = self._do(f"SELECT crc FROM items WHERE item IN ({marks})", part).fetchall()  # noqa: S608
            vectors = self._do(f"SELECT gen, crc FROM vectors WHERE item IN ({marks})", part).fetchall()  # noqa: S608
            self._do(f"DELETE FROM postings WHERE item IN ({marks})", part)  # noqa: S608  marks only
            gone = sum(crc or 0 for gen, crc in vectors if replaced is None or gen in replaced)
            self._grow(-sum(crc or 0 for (crc,) in old), -gone)

    def _grow(self, items: int, vectors: int) -> None:
        self.sums = (self.sums[0] + items, self.sums[1] + vectors)
