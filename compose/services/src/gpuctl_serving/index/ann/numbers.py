"""A map from item numbers to small numbers, at four bytes an entry: a dict of a million takes 150 MB."""

from array import array
from collections.abc import Iterator

_BITS = 10
_SIZE = 1 << _BITS
_MASK = _SIZE - 1
_NONE = -1
_EMPTY_PAGE = array("i", [_NONE]) * _SIZE


class NumberMap:
    """Item numbers are handed out in order, so pages are nearly full; empty ones are dropped."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._used: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: int) -> bool:
        return self.get(item) is not None

    @property
    def bytes(self) -> int:
        """Memory taken, roughly."""
        return len(self._pages) * (_SIZE * 4 + 250)

    def get(self, item: int) -> int | None:
        """The number of an item; None when it has none."""
        page = self._pages.get(item >> _BITS)
        found = _NONE if page is None else page[item & _MASK]
        return None if found == _NONE else found

    def set(self, item: int, number: int) -> None:
        """Gives an item its number, which is zero or more."""
        key = item >> _BITS
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = _EMPTY_PAGE[:]
            self._used[key] = 0
        if page[item & _MASK] == _NONE:
            self._used[key] += 1
            self._count += 1
        page[item & _MASK] = number

    def pop(self, item: int) -> int | None:
        """Forgets an item; the number it had."""
        found = self.get(item)
        if found is None:
            return None
        key = item >> _BITS
        self._pages[key][item & _MASK] = _NONE
        self._used[key] -= 1
        self._count -= 1
        if not self._used[key]:
            del self._pages[key], self._used[key]
        return found

    def __iter__(self) -> Iterator[int]:
        """The items, in order."""
        for key in sorted(self._pages):
            base = key << _BITS
            for at, number in enumerate(self._pages[key]):
                if number != _NONE:
                    yield base + at
