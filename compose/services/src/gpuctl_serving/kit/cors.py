"""Cross-origin requests from browsers: no headers for them unless GPUCTL_CORS_ORIGINS names the origin."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

Headers = list[tuple[bytes, bytes]]

ANY = "*"
#: Named when a preflight names none.
_USUAL_HEADERS = b"authorization, content-type, traceparent, tracestate, x-request-id"
#: Names of headers and what separates them; nothing else of a request is ever repeated in an answer.
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2048}")
_EXPOSED_HEADERS = b", ".join(
    (
        b"retry-after",
        b"server-timing",
        b"x-compute-characters",
        b"x-compute-time",
        b"x-compute-tokens",
        b"x-gpuctl-cache",
        b"x-gpuctl-device",
        b"x-gpuctl-device-reason",
        b"x-gpuctl-fallback",
        b"x-gpuctl-generation",
        b"x-gpuctl-ranked",
        b"x-gpuctl-truncated",
        b"x-inference-time",
        b"x-queue-time",
        b"x-request-id",
        b"x-tokenization-time",
        b"x-total-time",
    )
)
_REMEMBERED_SECONDS = b"600"


def parse_origins(text: str) -> tuple[str, ...]:
    """`https://app.example, http://localhost:3000`, or `*`. Raises ValueError naming what is no origin."""
    origins = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for origin in origins:
        if origin == ANY:
            continue
        parts = urlsplit(origin)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or f"{parts.scheme}://{parts.netloc}" != origin
        ):
            raise ValueError(f"{origin!r} is not an origin; write scheme://host or scheme://host:port, or *")
    return origins


class Cors:
    """Which origins may read answers. Keys travel in `Authorization`, never in cookies: no credentials."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, origin: str) -> Headers:
        """What an answer to a page of this origin carries; nothing when it may not read it."""
        if not self._origins:
            return []
        # An answer that depends on who asked must not be cached for others.
        vary: Headers = [] if ANY in self._origins else [(b"vary", b"Origin")]
        if not (allowed := self._allowed(origin)):
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
        ]

    def preflight(self, origin: str, methods: Iterable[str], wanted: str) -> Headers | None:
        """What the 204 to a preflight has beside `headers`; None when this origin may not ask.

        A page that may ask may send any header (`wanted`): OpenAI's client sends a dozen of its own, and
        a header protects nothing here but the key, which the page must know.
        """
        if not self._allowed(origin):
            return None
        return [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (
                b"access-control-allow-headers",
                wanted.encode() if _NAMES.fullmatch(wanted) else _USUAL_HEADERS,
            ),
            (b"access-control-max-age", _REMEMBERED_SECONDS),
        ]

    def uninvited(self, origin: str, site: str) -> bool:
        """Whether a browser says (`Sec-Fetch-Site`) that a page of another site sends this, uninvited.

        CORS only keeps such a page from reading the answer: without keys, any page that a developer opens
        could still write into an index on their machine, as text that needs no preflight.
        """
        return site == "cross-site" and not self._allowed(origin)

    def _allowed(self, origin: str) -> bytes:
        if not origin:
            return b""
        if ANY in self._origins:
            return b"*"
        return origin.encode("latin-1") if origin.lower() in self._origins else b""
