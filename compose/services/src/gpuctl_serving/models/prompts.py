"""What is put before a text: E5 and BGE know other words before a query than before a passage."""

from collections.abc import Mapping

#: The two sides of retrieval, under the names their models and tools use.
_SIDES = (("query", "search_query"), ("passage", "document", "corpus", "search_document"))


def prompt_of(prompts: Mapping[str, str], prefix: str, name: str | None) -> str | None:
    """The text to put before an input; None when the model has no prompt of that name.

    `query` and `passage` (or `document`) are understood by every model, also by one that adds nothing.
    """
    if name is None:
        return prefix
    if name in prompts:
        return prompts[name]
    for side in _SIDES:
        if name in side:
            return next((prompts[other] for other in side if other in prompts), prefix)
    return None


def passage_prompt(prompts: Mapping[str, str], prefix: str) -> str:
    """What is before the texts of an index: part of its vectors' identity."""
    return prompt_of(prompts, prefix, "passage") or ""
