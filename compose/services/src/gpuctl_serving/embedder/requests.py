"""Bodies the embedder takes: TEI's and OpenAI's."""

from typing import Any

import msgspec

from gpuctl_serving.kit.errors import invalid

#: Token ids are accepted by the shapes so that their refusal can say what to change.
Inputs = str | list[str | int | list[int]]


class EmbedBody(msgspec.Struct):
    """`POST /embed`, as TEI has it."""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: int | None = None


class OpenAiBody(msgspec.Struct):
    """`POST /v1/embeddings`, as OpenAI has it. `model` and `user` are accepted and not compared.

    `truncate` is ours: false refuses a text that does not fit, where OpenAI's own service always does.
    """

    input: Inputs
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    user: Any = None


def wants_base64(encoding_format: str | None) -> bool:
    """Whether vectors are wanted as base64; absent and null mean numbers."""
    if encoding_format not in (None, "float", "base64"):
        raise invalid(
            f"`encoding_format` is {encoding_format!r}; it is `float` or `base64`.", "encoding_format"
        )
    return encoding_format == "base64"


def texts_of(inputs: Inputs, param: str) -> list[str]:
    """The texts of a request. 422 for token ids: they come from another model's tokenizer."""
    if isinstance(inputs, str):
        return [inputs]
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) != len(inputs):
        raise invalid(
            f"`{param}` holds token ids, which only the tokenizer that made them understands. Send texts. "
            "With LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False.",
            param,
        )
    return texts
