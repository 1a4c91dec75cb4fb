"""Removes a namespace with everything in it: at once by its name, then item by item between other writes."""

import time
from collections.abc import Callable
from typing import Any

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.messages import Elsewhere, Write
from gpuctl_serving.index.store import Store
from gpuctl_serving.kit.errors import unavailable

#: What a namespace is called while its items are deleted: it is out of everybody's way from the first moment.
GONE = "~removed-"
#: Items deleted in one transaction; other writes go between two.
_PIECE = 2000
_SECONDS = 60.0


def remove(core: Core, namespace: str, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """For a job. What an interrupted removal left is deleted with it. Raises ServiceError 404."""

    def begin(store: Store) -> int:
        items = store.rename(namespace, f"{GONE}{store.sequence + 1}", None)
        progress("deleting", 0, items)
        return items

    items, deleted = _write(core, begin), 0
    while gone := _write(core, _delete_some):
        deleted += gone
        progress("deleting", deleted, max(items, deleted))
    return {"namespace": namespace, "items": items, "deleted": deleted}


def _delete_some(store: Store) -> int:
    rows = store.connection.execute(
        "SELECT item FROM items WHERE ns IN (SELECT ns FROM namespaces WHERE name GLOB ?) LIMIT ?",
        (f"{GONE}[0-9]*", _PIECE),
    )
    return store.delete_items([item for (item,) in rows])


def _write(core: Core, work: Callable[[Store], int]) -> int:
    result = core.worker.write(Write(work, time.monotonic() + _SECONDS)).result(_SECONDS)
    if isinstance(result, Elsewhere):
        raise unavailable(
            "This instance is not the writer any more. What is left is deleted with the next removal."
        )
    return int(result)
