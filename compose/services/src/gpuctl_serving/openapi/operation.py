"""One route as its document describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]

#: What any request with a body may be answered beside success.
BODY_ERRORS = (400, 401, 403, 413, 422, 429, 500, 503, 504)
#: The same without a body.
ERRORS = (401, 429, 500, 503)


@dataclass(frozen=True)
class Operation:
    """A method of a path, with the types of what goes in and comes out."""

    method: str
    path: str
    summary: str
    #: Type that msgspec decodes the body into; None for a request without one.
    body: Any = None
    #: Type of the JSON answer; None for `media`.
    answer: Any = None
    errors: tuple[int, ...] = BODY_ERRORS
    #: Field of the body -> the part of its schema that differs from its type: limits, or what is refused.
    narrow: Mapping[str, Schema] = field(default_factory=dict)
    #: Query parameters: name -> schema.
    query: Mapping[str, Schema] = field(default_factory=dict)
    #: False for what is answered without a key, always.
    keyed: bool = True
    #: Statuses with the same body as success: `/health` answers 503 with its facts.
    also: tuple[int, ...] = ()
    example: Any = None
    #: What an answer that is no JSON is.
    media: str = "text/plain"
    #: False for a body that may be left out.
    needs_body: bool = True
