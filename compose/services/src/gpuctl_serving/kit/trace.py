"""W3C trace context: read from a request, written into its logs, passed on to whoever is asked next."""

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from gpuctl_serving.kit.logs import request_id

#: version "-" trace id "-" parent id "-" flags; a later version may have more behind another "-".
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16
_FORBIDDEN_VERSION, _OUR_VERSION = b"ff", b"00"
#: What a sender should at least pass on.
_MAX_TRACESTATE = 512


@dataclass(frozen=True)
class Trace:
    """The trace a request is part of, and this service's place in it."""

    trace_id: str
    #: Who asked us.
    parent_id: str
    #: Our own span: the parent of whatever we ask.
    span_id: str
    flags: str
    state: str

    def headers(self) -> dict[str, str]:
        """What tells the next service of the trace."""
        parent = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags}"}
        return parent | ({"tracestate": self.state} if self.state else {})


#: The trace of the request being answered in this context, when it has one.
current_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


def read_trace(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace named by `traceparent`; None without one, and for one that is not valid (as W3C asks)."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1 or (found := _TRACEPARENT.fullmatch(parents[0].strip(b" \t"))) is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if version == _FORBIDDEN_VERSION or (version == _OUR_VERSION and more):
        return None
    if trace_id == _NO_TRACE or parent_id == _NO_PARENT:
        return None
    state = b",".join(states)
    # Of the flags only `sampled` has a meaning that we know.
    sampled = f"{int(flags, 16) & 1:02x}"
    kept = state.decode("latin-1") if len(state) <= _MAX_TRACESTATE and state.isascii() else ""
    return Trace(trace_id.decode(), parent_id.decode(), secrets.token_hex(8), sampled, kept)


def outgoing_headers() -> dict[str, str]:
    """Headers for a request that is made on behalf of the one being answered: its id and its trace."""
    trace, asked = current_trace.get(), request_id.get()
    return (trace.headers() if trace else {}) | ({"x-request-id": asked} if asked else {})
