"""Bodies of errors, as documented; kit/errors.py makes them."""

import msgspec


class OpenAiError(msgspec.Struct):
    """What OpenAI's clients read."""

    message: str
    type: str
    param: str | None
    code: str


class Error(msgspec.Struct):
    """TEI's two keys, OpenAI's words, and Cohere's `message`, whatever the route.

    `error` is a text on TEI's routes and OpenAI's object below `/v1/`.
    """

    error: str | OpenAiError
    error_type: str
    message: str
    type: str
    param: str | None
    code: str


MEANINGS = {
    202: "It takes longer; ask for the job.",
    400: "There is nothing to work on, or the body is not JSON.",
    401: "No valid key.",
    403: "A web page of another site sent it, and GPUCTL_CORS_ORIGINS does not name the page's origin.",
    404: "There is no such thing.",
    409: "Another instance holds what is needed, or things changed meanwhile.",
    413: "The body is larger than GPUCTL_MAX_BODY_BYTES.",
    422: "JSON, but not a request that this route can answer.",
    429: "The queue is full, or the key has asked for too much. `Retry-After` says when to come back.",
    500: "A bug. The log has its trace under the request's id.",
    503: "Loading, stopping or without its device. `Retry-After` says when to come back.",
    504: "No answer within GPUCTL_DEADLINE_MS.",
    507: "The disk is full.",
}
