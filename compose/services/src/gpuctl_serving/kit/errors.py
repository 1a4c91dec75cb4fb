"""Errors a client sees: one class, and the bodies TEI's, OpenAI's, Jina's and Cohere's clients understand."""

from typing import Any

#: TEI's `error_type` words; its clients compare them.
EMPTY = "Empty"
VALIDATION = "Validation"
OVERLOADED = "Overloaded"
UNHEALTHY = "Unhealthy"
BACKEND = "Backend"
TOKENIZER = "Tokenizer"

#: OpenAI's `type` and `code`, where a status has its own; clients decide by the status first.
_OPENAI_WORDS = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("not_found_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


class ServiceError(Exception):
    """An answer other than success. `message` is one or two full sentences: what is wrong and what to do."""

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        retry_after: int | None = None,
        param: str | None = None,
        reason: str | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        #: Seconds for the `Retry-After` header.
        self.retry_after = retry_after
        #: The field of the request that is wrong, when one is.
        self.param = param
        #: Label of `gpuctl_rejected_total`; None counts nothing there.
        self.reason = reason
        #: Methods for the `Allow` header of a 405.
        self.allow = allow

    def body(self, path: str) -> dict[str, Any]:
        """The JSON body for a request to `path`: both families of keys, whatever the route.

        `error` is a text on TEI's routes, whose clients show it as it is, and OpenAI's object on the routes
        OpenAI's clients call. Everything else is the same everywhere: TEI's `error_type`, OpenAI's `message`,
        `type`, `param` and `code` (flat, as TEI's own OpenAI route has them), Cohere's `message`.
        """
        kind, code = _OPENAI_WORDS.get(
            self.status,
            ("invalid_request_error" if self.status < 500 else "server_error", self.error_type.lower()),
        )
        words = {"message": self.message, "type": kind, "param": self.param, "code": code}
        error = words if speaks_openai(path) else self.message
        return {"error": error, "error_type": self.error_type, **words}


def speaks_openai(path: str) -> bool:
    """Whether OpenAI's clients (and those that copy them) call this route."""
    return path.startswith("/v1/") or path == "/embeddings"


class LoadFailed(Exception):
    """A service cannot load. The message says what, why and what to do next."""


def empty(message: str, param: str | None = None) -> ServiceError:
    """400: nothing to work on."""
    return ServiceError(400, EMPTY, message, param=param, reason="empty")


def malformed(message: str) -> ServiceError:
    """400: the body is not JSON at all."""
    return ServiceError(400, VALIDATION, message, reason="malformed")


def invalid(message: str, param: str | None = None) -> ServiceError:
    """422: JSON, but not a request this route can answer."""
    return ServiceError(422, VALIDATION, message, param=param, reason="validation")


def too_large(limit: int) -> ServiceError:
    """413: the body is over GPUCTL_MAX_BODY_BYTES."""
    message = (
        f"The body is larger than {limit} bytes. Send fewer items a request, or raise GPUCTL_MAX_BODY_BYTES."
    )
    return ServiceError(413, VALIDATION, message, reason="body_too_large")


def unauthorized() -> ServiceError:
    """401: no key, or one that is not in GPUCTL_API_KEYS_FILE."""
    return ServiceError(
        401,
        "Unauthorized",
        "A valid key is needed. Send it as `Authorization: Bearer <key>`.",
        reason="unauthorized",
    )


def uninvited() -> ServiceError:
    """403: sent by a web page of another site that GPUCTL_CORS_ORIGINS does not name."""
    return ServiceError(
        403,
        "Forbidden",
        "Pages of other sites may not ask this service. Name the page's origin in GPUCTL_CORS_ORIGINS.",
        reason="cross_site",
    )


def overloaded(message: str, retry_after: int) -> ServiceError:
    """429: the queue is full; try again after `retry_after` seconds."""
    return ServiceError(429, OVERLOADED, message, retry_after=max(1, retry_after), reason="queue_full")


def rate_limited(allowed: str, retry_after: int) -> ServiceError:
    """429: this key has asked for more than GPUCTL_RATE_LIMIT; another key may still ask."""
    message = f"This key may ask for {allowed}, and has. Wait {retry_after} s, or raise GPUCTL_RATE_LIMIT."
    return ServiceError(429, OVERLOADED, message, retry_after=max(1, retry_after), reason="rate_limited")


def unavailable(message: str, retry_after: int = 1, reason: str = "unavailable") -> ServiceError:
    """503: it cannot answer now, but another try may pass."""
    return ServiceError(503, UNHEALTHY, message, retry_after=max(1, retry_after), reason=reason)


def past_deadline(deadline_ms: int) -> ServiceError:
    """504: the answer was not there within GPUCTL_DEADLINE_MS."""
    message = f"No answer within {deadline_ms} ms. Send fewer or shorter texts, or raise GPUCTL_DEADLINE_MS."
    return ServiceError(504, BACKEND, message, reason="deadline")
