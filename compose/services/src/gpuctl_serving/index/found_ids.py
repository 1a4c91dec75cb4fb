"""Ids of items that searches found: asked of the database once, as long as nothing changes."""

import threading
from collections.abc import Sequence

import numpy as np

from gpuctl_serving.index.ann.near import Items
from gpuctl_serving.index.ids import ItemId, given
from gpuctl_serving.index.reader import Snapshot

#: Ids kept, at most. Item numbers are handed out in order, so so many neighbours have a slot each.
_SLOTS = 1 << 17


class FoundIds:
    """Any thread may ask. An item's number is never used again, and its id never changes."""

    def __init__(self) -> None:
        self._items = np.full(_SLOTS, -1, np.int64)
        self._ids = np.empty(_SLOTS, object)
        self._lock = threading.Lock()

    def of(self, snapshot: Snapshot, items: Items, *, there: bool) -> dict[int, ItemId]:
        """Ids of the items that are still there; `there` when it is known that all of them are."""
        if not there:
            return self._ask(snapshot, np.unique(items).tolist())
        slots = items % _SLOTS
        with self._lock:
            known = self._items[slots] == items
            ids = self._ids[slots]
        if known.all():
            return dict(zip(items.tolist(), ids.tolist(), strict=True))
        found = dict(zip(items[known].tolist(), ids[known].tolist(), strict=True))
        return found | self._ask(snapshot, np.unique(items[~known]).tolist())

    def _ask(self, snapshot: Snapshot, items: Sequence[int]) -> dict[int, ItemId]:
        found = {item: given(name) for item, name in snapshot.names(items).items()}
        numbers = np.fromiter(found, np.int64, len(found))
        with self._lock:
            self._items[numbers % _SLOTS] = numbers
            self._ids[numbers % _SLOTS] = list(found.values())
        return found
