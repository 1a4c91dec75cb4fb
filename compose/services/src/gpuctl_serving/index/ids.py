"""Ids of items: text or whole numbers, given back as they came. The database keeps both as text."""

ItemId = str | int

#: Before the digits of a number. No text id begins so: they are printable.
_NUMBER = "\x01"
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1


def stored(given: ItemId) -> str:
    """An id as the database has it: 7 and "7" are two items."""
    return f"{_NUMBER}{given}" if isinstance(given, int) else given


def given(stored: str) -> ItemId:
    """The id as its client gave it."""
    return int(stored[1:]) if stored.startswith(_NUMBER) else stored


def order(given: ItemId) -> tuple[int, int, str]:
    """Sorts numbers by value, before texts."""
    return (0, given, "") if isinstance(given, int) else (1, 0, given)


def numbered(text: str) -> str | None:
    """The number a text spells, as the database has it; None when it spells none."""
    digits = text[1:] if text.startswith("-") else text
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 19 or str(int(text)) != text:
        return None
    return stored(int(text)) if SMALLEST <= int(text) <= LARGEST else None
