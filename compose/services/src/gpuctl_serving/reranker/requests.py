"""Bodies the reranker takes: TEI's `texts`; Jina's, Cohere's and the app's `documents`."""

from dataclasses import dataclass
from typing import Any

import msgspec

from gpuctl_serving.kit.body import written
from gpuctl_serving.kit.errors import empty, invalid

#: What a document may be: a text, or an object that holds one as `text` or `content`.
Item = str | dict[str, Any]


class RerankBody(msgspec.Struct):
    """Every dialect at once. Exactly one of `texts` and `documents` is given."""

    query: str
    texts: list[str] | None = None
    documents: list[Item] | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    return_documents: bool | None = None
    top_n: int | None = None
    #: Cohere's: no more of a document is read.
    max_tokens_per_doc: int | None = None
    model: str | None = None


@dataclass(frozen=True)
class Candidates:
    """What is to be ranked, whatever the dialect."""

    param: str
    texts: list[str]


def candidates(body: RerankBody) -> Candidates:
    """The texts of a request. Raises 400 and 422 with what to change."""
    if (body.texts is None) == (body.documents is None):
        both = body.texts is not None
        raise invalid(
            (
                "Both `texts` and `documents` were sent. "
                if both
                else "Neither `texts` nor `documents` was sent. "
            )
            + "Send `texts` for TEI's answer, or `documents` for Jina's and Cohere's."
        )
    if not body.query.strip():
        raise empty("`query` is empty. Send the question the documents are ranked by.", "query")
    if body.top_n is not None and body.top_n < 1:
        raise invalid(f"`top_n` is {body.top_n}; it is at least 1.", "top_n")
    if body.max_tokens_per_doc is not None and body.max_tokens_per_doc < 1:
        raise invalid(
            f"`max_tokens_per_doc` is {body.max_tokens_per_doc}; it is at least 1.", "max_tokens_per_doc"
        )
    if body.texts is not None:
        return Candidates("texts", body.texts)
    return Candidates("documents", [_text(n, item) for n, item in enumerate(body.documents or [])])


def _text(number: int, item: Item) -> str:
    if isinstance(item, str):
        return item
    written(item, f"documents[{number}]")
    for key in ("text", "content"):
        if isinstance(item.get(key), str):
            return str(item[key])
    raise invalid(f"`documents[{number}]` has neither `text` nor `content` as a string.", "documents")
