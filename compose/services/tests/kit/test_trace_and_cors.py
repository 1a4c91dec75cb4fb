"""Traces passed on, browsers let in, slow requests explained, and stacks for the private socket."""

import logging
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.echo import Echo
from tests.support.running import Running

from gpuctl_serving.kit.cors import parse_origins
from gpuctl_serving.kit.logs import request_id
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Settings, SettingsError
from gpuctl_serving.kit.trace import current_trace, outgoing_headers, read_trace

Serve = Callable[[ServiceBase], Running]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def read(*parents: str, state: str = "") -> str | None:
    headers = [(b"traceparent", parent.encode("latin-1")) for parent in parents]
    found = read_trace([*headers, *([(b"tracestate", state.encode())] if state else [])])
    return found.trace_id if found else None


@pytest.mark.parametrize(
    "parent",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-brings",
        f"cc-{TRACE}-{PARENT}-01",
    ],
)
def test_a_trace_parent_as_w3c_writes_it_is_accepted(parent: str) -> None:
    assert read(parent) == TRACE


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"cc-{TRACE}-{PARENT}-01.what",
    ],
)
def test_any_other_is_treated_as_absent(parent: str) -> None:
    assert read(parent) is None


def test_two_trace_parents_are_none() -> None:
    assert read(f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01") is None


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_makes_it_fail(anything: str) -> None:
    read(anything, state="a=b")


def test_what_is_passed_on_names_us_as_the_parent() -> None:
    trace = read_trace(
        [
            (b"traceparent", f"00-{TRACE}-{PARENT}-03".encode()),
            (b"tracestate", b"a=1"),
            (b"tracestate", b"b=2"),
        ]
    )
    assert trace is not None
    assert trace.headers() == {"traceparent": f"00-{TRACE}-{trace.span_id}-01", "tracestate": "a=1,b=2"}
    assert trace.span_id != PARENT
    resets = current_trace.set(trace), request_id.set("mine")
    assert outgoing_headers() == {**trace.headers(), "x-request-id": "mine"}
    current_trace.reset(resets[0])
    request_id.reset(resets[1])
    assert outgoing_headers() == {}


def test_the_trace_is_in_the_log_of_its_request_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, object]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            from gpuctl_serving.kit.logs import trace_id

            if record.getMessage() == "request":
                seen.append({"trace": trace_id.get(), "id": request_id.get()})

    recorder = Recorder()
    logger = logging.getLogger("gpuctl_serving.kit.front")
    logger.addHandler(recorder)
    caplog.set_level(logging.INFO)
    client = serve(Echo()).public
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "one"}
    client.post("/echo", json={"text": "a"}, headers=headers)
    client.post("/echo", json={"text": "a"}, headers={"x-request-id": "two"})
    logger.removeHandler(recorder)
    assert seen == [{"trace": TRACE, "id": "one"}, {"trace": "", "id": "two"}]


def preflight(running: Running, origin: str) -> httpx.Response:
    return running.public.options(
        "/echo", headers={"origin": origin, "access-control-request-method": "POST"}
    )


def test_browsers_get_nothing_unless_an_origin_is_named(serve: Serve) -> None:
    running = serve(Echo())
    assert preflight(running, "https://app.example").status_code == 405
    answer = running.public.post("/echo", json={"text": "a"}, headers={"origin": "https://app.example"})
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_named_origin_may_ask_and_read_even_errors(serve: Serve) -> None:
    running = serve(Echo(cors_origins=parse_origins("https://app.example, http://localhost:3000")))
    asked = preflight(running, "http://localhost:3000")
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert asked.headers["access-control-allow-methods"] == "GET, POST"
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert 'gpuctl_requests_total{code="204",route="/echo"} 1.0' in running.public.get("/metrics").text
    for content, status in ((b'{"text":"a"}', 200), (b"{", 400)):
        answer = running.public.post("/echo", content=content, headers={"origin": "https://app.example"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers


def test_a_page_may_send_the_headers_its_client_adds_and_nothing_else_is_repeated(serve: Serve) -> None:
    running = serve(Echo(cors_origins=parse_origins("https://app.example")))

    def allowed(wanted: str) -> str:
        asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
        answer = running.public.options("/echo", headers={**asked, "access-control-request-headers": wanted})
        assert answer.status_code == 204
        return answer.headers["access-control-allow-headers"]

    stainless = "authorization, content-type, x-stainless-lang, x-stainless-retry-count"
    assert allowed(stainless) == stainless
    for odd in ("x: y", "a" * 3000, "<x>", ""):
        assert allowed(odd).startswith("authorization, content-type, traceparent")


def test_a_stranger_may_not_and_no_cache_mixes_the_two_up(serve: Serve) -> None:
    running = serve(Echo(cors_origins=parse_origins("https://app.example")))
    for origin in ("https://app.example.evil", "http://app.example", "https://app.example:8443", "null"):
        assert preflight(running, origin).status_code == 405
        answer = running.public.post("/echo", json={"text": "a"}, headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in running.public.get("/health").headers


def test_a_browser_may_not_send_for_a_page_of_another_site_what_needs_no_preflight(serve: Serve) -> None:
    running = serve(Echo(cors_origins=parse_origins("https://app.example")))

    def status(origin: str, site: str, method: str = "POST") -> int:
        headers = {"origin": origin, "sec-fetch-site": site, "content-type": "text/plain"}
        answer = running.public.request(method, "/echo", content=b'{"text":"a"}', headers=headers)
        return answer.status_code

    assert status("https://evil.example", "cross-site") == 403
    assert status("null", "cross-site") == 403
    assert status("https://evil.example", "cross-site", "DELETE") == 403
    assert status("https://app.example", "cross-site") == 200
    # Behind a proxy the page's own origin is not the service's, but the browser knows that it is one site.
    assert status("https://proxied.example", "same-origin") == 200
    assert 'gpuctl_rejected_total{reason="cross_site"} 3.0' in running.public.get("/metrics").text


def test_any_origin_can_be_allowed_but_never_the_private_routes(serve: Serve) -> None:
    running = serve(Echo(cors_origins=parse_origins("*")))
    assert preflight(running, "https://anyone").headers["access-control-allow-origin"] == "*"
    headers = {"origin": "https://anyone", "access-control-request-method": "POST"}
    for path in ("/private/warmup", "/debug/stacks"):
        assert running.public.options(path, headers=headers).status_code == 404


@pytest.mark.parametrize("text", ["app.example", "https://", "https://a/b", "ftp://a", "https://a/"])
def test_what_is_no_origin_is_refused_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match="is not an origin"):
        Settings.load({"GPUCTL_CORS_ORIGINS": text})


def test_a_slow_request_is_logged_with_its_stages_and_counted(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    fast, slow = serve(Echo(slow_ms=0)), serve(Echo(slow_ms=1, slo_ms=123))
    caplog.set_level(logging.INFO)
    fast.public.post("/costly", json={"text": "abc"})
    assert "slow-request" not in caplog.text
    slow.public.post("/costly", json={"text": "words nobody may see " * 30_000})
    (record,) = [r for r in caplog.records if r.getMessage() == "slow-request"]
    fields = vars(record)["gpuctl_fields"]
    assert fields["route"] == "/costly"
    assert (fields["tokenizeMs"], fields["queueMs"], fields["inferenceMs"]) == (1.0, 2.0, 3.0)
    assert fields["tokens"] == 630_000
    assert "nobody" not in str(fields)
    text = slow.public.get("/metrics").text
    assert "gpuctl_slow_requests_total 1.0" in text
    assert 'gpuctl_request_seconds_bucket{le="0.123",route="/costly"}' in text


def test_stacks_are_for_the_private_socket_alone(serve: Serve) -> None:
    running = serve(Echo())
    assert running.public.get("/debug/stacks").status_code == 404
    stacks = running.private.get("/debug/stacks")
    assert stacks.headers["content-type"].startswith("text/plain")
    assert "thread MainThread" in stacks.text
    assert "all_stacks" in stacks.text
    assert "task " in stacks.text
    assert "/debug" not in running.public.get("/nothing").text
    assert 'route="/debug' not in running.public.get("/metrics").text
