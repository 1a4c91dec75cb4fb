"""Logs as JSON lines on stdout: one object a line, with the request's id when there is one."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

#: Id of the request being answered in this context; empty outside one.
request_id: ContextVar[str] = ContextVar("request_id", default="")
#: Id of the trace that request is part of; empty when it named none.
trace_id: ContextVar[str] = ContextVar("trace_id", default="")

_FIELDS = "gpuctl_fields"


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time, level, event, request id, then its own fields."""

    def __init__(self, service: str, process: str | None = None) -> None:
        super().__init__()
        self._who = {"service": service} | ({"process": process} if process else {})

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._who,
            "event": record.getMessage(),
        }
        if current := request_id.get():
            line["requestId"] = current
        if trace := trace_id.get():
            line["traceId"] = trace
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


class Log:
    """A logger whose calls are an event name and fields: `log.info("loaded", model=name, ms=12)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever debugs; off unless GPUCTL_LOG_LEVEL=debug."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened that a person may look for later."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Works, but a person should know."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed. Inside an `except` block the trace is added."""
        self._emit(logging.ERROR, event, fields, trace=sys.exc_info()[0] is not None)

    def _emit(self, level: int, event: str, fields: dict[str, Any], *, trace: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields}, exc_info=trace)


#: (service, level) of the last `configure_logging`, for processes that log on its behalf.
_configured = ("", "info")


def configured() -> tuple[str, str]:
    """Service and level that this process logs with."""
    return _configured


def configure_logging(
    service: str, level: str, stream: TextIO | None = None, *, process: str | None = None
) -> None:
    """Sends every logger of this process, libraries included, through JSON lines on `stream`.

    `process` names one that a service started to work for it; its lines say so.
    """
    global _configured
    _configured = (service, level)
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonLines(service, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(noisy)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(logging.WARNING, root.level))
