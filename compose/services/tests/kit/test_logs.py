"""Every log line is one JSON object, libraries' included."""

import io
import logging

import orjson

from gpuctl_serving.kit.logs import Log, configure_logging, request_id


def test_lines_are_json_with_the_request_they_belong_to() -> None:
    stream = io.StringIO()
    configure_logging("embedder", "info", stream)
    try:
        log = Log("some.module")
        log.debug("hidden")
        log.info("loaded", ms=12)
        token = request_id.set("abc")
        try:
            raise ValueError("broken")
        except ValueError:
            log.error("failed", detail="a\nb")
        finally:
            request_id.reset(token)
        logging.getLogger("a.library").warning("from %s", "elsewhere")
    finally:
        logging.getLogger().handlers.clear()
    loaded, failed, foreign = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert (loaded["event"], loaded["ms"], loaded["level"], loaded["service"]) == (
        "loaded",
        12,
        "info",
        "embedder",
    )
    assert "requestId" not in loaded
    assert (failed["requestId"], failed["detail"]) == ("abc", "a\nb")
    assert "ValueError: broken" in failed["trace"]
    assert foreign["event"] == "from elsewhere"
