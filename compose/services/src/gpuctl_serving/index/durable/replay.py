"""Brings a database up to the end of the log."""

import sqlite3

import msgspec

from gpuctl_serving.index.durable.records import body_of
from gpuctl_serving.index.durable.scan import History, mapped
from gpuctl_serving.index.rows import Rows

#: Records applied in one transaction.
_RECORDS = 256


def replay(connection: sqlite3.Connection, history: History, after: int) -> int:
    """Applies every record behind change `after`; how many changes. Raises ValueError when one cannot be."""
    rows, changes, pending = Rows(connection), 0, 0
    try:
        for segment in history.segments:
            with mapped(segment.path) as data:
                for found in segment.records:
                    if found.last <= after:
                        continue
                    if found.first <= after:
                        raise ValueError(f"the log's changes {found.first} to {found.last} are there in part")
                    if not pending:
                        connection.execute("BEGIN IMMEDIATE")
                    rows.apply(found.first, body_of(data, found))
                    rows.write_tail(history.line, found.last, found.crc)
                    changes += found.last - found.first + 1
                    pending += 1
                    if pending == _RECORDS:
                        connection.execute("COMMIT")
                        pending = 0
        if pending:
            connection.execute("COMMIT")
    except (msgspec.DecodeError, KeyError) as strange:
        raise ValueError(f"the log holds something this version cannot read: {strange}") from strange
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return changes
