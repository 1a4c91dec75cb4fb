"""What happens around every route: ids, keys, limits, errors, health, metrics, the private routes."""

import socket
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.support.echo import Echo
from tests.support.running import Running, run_service

from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.metrics import CODES, REASONS
from gpuctl_serving.kit.service import InstanceFacts, ServiceBase

Serve = Callable[[ServiceBase], Running]


def test_every_answer_has_a_request_id_timings_and_the_device(serve: Serve) -> None:
    client = serve(Echo()).public
    answer = client.post("/echo", json={"text": "hé"}, headers={"x-request-id": "mine-1"})
    assert answer.json() == {"text": "hé"}
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-gpuctl-device"] == "cpu"
    assert "total;dur=" in answer.headers["server-timing"]
    strange = client.post("/echo", json={"text": ""}, headers={"x-request-id": "no spaces, please"})
    assert len(strange.headers["x-request-id"]) == 16


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"   ", 400, "empty"),
        (b"{", 400, "JSON"),
        (b'{"text": "\\ud800"}', 400, "lone surrogate"),
        (b'{"text": "\\udc00 x"}', 400, "lone surrogate"),
        (b'{"text": "\xff"}', 400, "UTF-8"),
        (b'{"text": "\\ud83d\\ude80"}', 200, "\U0001f680"),
        (b'{"text": 7}', 422, "Expected `str`"),
        (b"[]", 422, "shape"),
        (b"{}", 422, "text"),
        (b"null", 422, "shape"),
        (b"[" * 10_000, 422, "shape"),
        (b'{"other": ' + b"[" * 100_000, 400, "nested"),
    ],
)
def test_a_body_that_cannot_be_used_is_a_4xx_that_says_why(
    serve: Serve, body: bytes, status: int, said: str
) -> None:
    answer = serve(Echo()).public.post("/echo", content=body)
    assert answer.status_code == status
    assert said in orjson.dumps(answer.json()).decode() or said in answer.text


def test_error_bodies_suit_the_clients_of_their_route(serve: Serve) -> None:
    client = serve(Echo()).public
    tei = client.post("/echo", content=b"{").json()
    assert isinstance(tei["error"], str)
    assert tei["error_type"] == "Validation"
    # What OpenAI's clients read is there too, flat, as on TEI's own OpenAI route.
    assert (tei["message"], tei["type"], tei["code"], tei["param"]) == (
        tei["error"],
        "invalid_request_error",
        "validation",
        None,
    )
    openai = client.post("/v1/echo", content=b"{").json()
    assert openai["error_type"] == "Validation"
    assert openai["error"]["type"] == "invalid_request_error"
    assert openai["error"]["message"] == openai["message"]


def test_unknown_routes_and_methods_are_named(serve: Serve) -> None:
    client = serve(Echo()).public
    missing = client.get("/nothing")
    assert (missing.status_code, "/echo" in missing.json()["error"]) == (404, True)
    wrong = client.get("/echo")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "Send POST" in wrong.json()["error"]
    assert client.post("/items/a").headers["allow"] == "GET, HEAD"
    assert client.get("/items/a%20b").json() == {"id": "a b"}


def test_a_bug_is_a_500_that_keeps_its_details_in_the_log(serve: Serve) -> None:
    client = serve(Echo()).public
    answer = client.get("/broken", headers={"x-request-id": "find-me"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "find-me" in answer.json()["error"]


def test_retry_after_travels_as_a_header(serve: Serve) -> None:
    answer = serve(Echo()).public.get("/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


def test_a_body_over_the_limit_is_refused_unread_and_the_client_can_read_the_answer(serve: Serve) -> None:
    client = serve(Echo(max_body_bytes=4096)).public
    for content in (b" " * 50_000_000, (b" " * 1024 for _ in range(64))):
        answer = client.post("/echo", content=content)
        assert answer.status_code == 413
        assert "4096" in answer.json()["error"]
        assert answer.headers["connection"] == "close"
    assert client.post("/echo", json={"text": "still here"}).status_code == 200


def test_keys_guard_everything_but_health_and_metrics(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# rotated in spring\nfirst-key\n\nsecond-key\n")
    running = serve(Echo(api_keys_file=keys))
    body = {"text": "a"}
    for wrong in ("", "Bearer wrong", "first-key", "Basic first-key"):
        answer = running.public.post("/echo", json=body, headers={"authorization": wrong})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for key in ("first-key", "second-key"):
        assert running.public.post("/echo", json=body, headers={"authorization": f"Bearer {key}"}).is_success
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert running.public.get(path).is_success
    assert running.public.get("/info").status_code == 401
    assert running.private.post("/echo", json=body).is_success


@pytest.mark.parametrize("content", ["", "\n# only a comment\n"])
def test_a_key_file_without_a_key_is_refused_at_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content)
    with pytest.raises(LoadFailed, match="holds no key"):
        Echo(api_keys_file=tmp_path / "keys")
    with pytest.raises(LoadFailed, match="cannot be read"):
        Echo(api_keys_file=tmp_path / "absent")


def test_private_routes_exist_on_the_private_socket_only(serve: Serve) -> None:
    running = serve(Echo())
    running.service.instance = InstanceFacts("echo-r1-0-a", "r1-0", "a", "closed")
    assert running.public.get("/private/status").status_code == 404
    status = running.private.get("/private/status").json()
    assert status["id"] == "echo-r1-0-a"
    assert (status["state"], status["traffic"], status["inflight"]) == ("ready", "closed", 0)
    assert 0 < status["rssMiB"] <= status["peakRssMiB"]
    assert running.private.post("/private/warmup").json()["peakRssMiB"] > 0
    assert running.private.post("/private/proof").json() == {"device": "cpu"}
    assert running.private.get("/health").is_success


def test_health_while_loading_and_after_a_failed_load() -> None:
    loading = Echo()
    with run_service(loading, load=False) as running:
        assert running.public.get("/health").json()["status"] == "loading"
        assert running.public.get("/health/ready").status_code == 503
        assert running.public.get("/health/live").status_code == 200
        assert running.public.post("/echo", json={"text": "a"}).status_code == 503
        assert running.public.get("/info").is_success
    failed = Echo(fails="The disk is on fire.")
    with pytest.raises(LoadFailed):
        failed.load()
    with run_service(failed, load=False) as running:
        health = running.public.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
        assert "on fire" in health.json()["reason"]
        assert "on fire" in running.public.post("/echo", json={"text": "a"}).json()["error"]


def test_a_device_that_is_required_but_not_proven_answers_503(serve: Serve) -> None:
    running = serve(Echo(require="cuda"))
    assert running.public.get("/health/ready").status_code == 503
    health = running.public.get("/health").json()
    assert (health["status"], health["device"]) == ("degraded", "cpu")
    refused = running.public.post("/echo", json={"text": "a"})
    assert refused.status_code == 503
    assert "GPUCTL_REQUIRE=cuda" in refused.json()["error"]


def test_every_series_is_there_at_zero_before_the_first_request(serve: Serve) -> None:
    text = serve(Echo()).public.get("/metrics").text
    for route in ("/echo", "/items/{id}", "none"):
        for code in CODES:
            assert f'gpuctl_requests_total{{code="{code}",route="{route}"}} 0.0' in text
    for reason in REASONS:
        assert f'gpuctl_rejected_total{{reason="{reason}"}} 0.0' in text
    assert "gpuctl_ready 1.0" in text


def test_metrics_count_by_route_pattern_and_never_by_path(serve: Serve) -> None:
    client = serve(Echo()).public
    client.get("/items/one")
    client.get("/items/two")
    client.get("/scanner/.env")
    client.post("/echo", content=b"")
    text = client.get("/metrics").text
    assert 'gpuctl_requests_total{code="200",route="/items/{id}"} 2.0' in text
    assert 'gpuctl_requests_total{code="404",route="none"} 1.0' in text
    assert 'gpuctl_rejected_total{reason="empty"} 1.0' in text
    assert "scanner" not in text
    assert "/items/one" not in text


def test_work_ends_when_its_client_leaves(serve: Serve) -> None:
    service = Echo()
    running = serve(service)
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        assert service.waiting.wait(5)
        assert service.inflight == 1
    assert service.cancelled.wait(5)
    text = running.public.get("/metrics").text
    assert 'gpuctl_rejected_total{reason="cancelled"} 1.0' in text


def test_every_kind_of_answer_is_counted_once_and_timed(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key\n")
    running = serve(Echo(api_keys_file=tmp_path / "keys", max_body_bytes=4096))
    key = {"authorization": "Bearer key"}
    for headers, content, path, status in (
        (key, b'{"text":"a"}', "/echo", 200),
        (key, b"", "/echo", 400),
        (key, b"{", "/echo", 400),
        ({}, b"{}", "/echo", 401),
        (key, b"[]", "/echo", 422),
        (key, b" " * 5000, "/echo", 413),
        (key, b"", "/nowhere", 404),
    ):
        assert running.public.post(path, content=content, headers=headers).status_code == status
    assert running.public.get("/broken", headers=key).status_code == 500
    assert running.public.get("/busy", headers=key).status_code == 503
    text = running.public.get("/metrics").text
    codes = {"200": 1.0, "400": 2.0, "401": 1.0, "422": 1.0, "413": 1.0}
    for code in CODES:
        wanted = codes.get(code, 0.0)
        assert f'gpuctl_requests_total{{code="{code}",route="/echo"}} {wanted}' in text
    for code, route in (("404", "none"), ("500", "/broken"), ("503", "/busy")):
        assert f'gpuctl_requests_total{{code="{code}",route="{route}"}} 1.0' in text
    reasons = {
        **dict.fromkeys(("empty", "malformed", "unauthorized", "validation", "body_too_large"), 1.0),
        "unavailable": 1.0,
    }
    for reason in REASONS:
        assert f'gpuctl_rejected_total{{reason="{reason}"}} {reasons.get(reason, 0.0)}' in text
    assert 'gpuctl_request_seconds_count{route="/echo"} 6.0' in text
    assert 'gpuctl_request_seconds_bucket{le="+Inf",route="/echo"} 6.0' in text
    assert "gpuctl_api_keys 1.0" in text
