"""Any text as the value of a header, and back: a line feed in a model's prompt must end no header."""

import re
from urllib.parse import quote, unquote

_CONTROL = re.compile(r"[\x00-\x1f\x7f%]")


def to_header(text: str) -> str:
    """The text as UTF-8 in a header's latin-1; control characters and `%` are percent-encoded."""
    return _CONTROL.sub(lambda found: quote(found.group()), text).encode().decode("latin-1")


def from_header(value: str) -> str:
    """What `to_header` was given."""
    return unquote(value.encode("latin-1").decode("utf-8", "replace"))
