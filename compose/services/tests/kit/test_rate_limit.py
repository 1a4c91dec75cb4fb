"""What one key may ask for, alone and over HTTP."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.echo import Echo
from tests.support.running import Running

from gpuctl_serving.kit.rate_limit import Limit, RateLimiter, parse_limits
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Settings, SettingsError

Serve = Callable[[ServiceBase], Running]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limiter(text: str) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(parse_limits(text), clock), clock


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", ()),
        ("100/s", (Limit(100, 1, "requests"),)),
        (
            "600 requests/min, 200000 tokens/hour",
            (Limit(600, 60, "requests"), Limit(200_000, 3600, "tokens")),
        ),
    ],
)
def test_limits_are_written_as_people_say_them(text: str, limits: tuple[Limit, ...]) -> None:
    assert parse_limits(text) == limits


@pytest.mark.parametrize(
    "text", ["100", "0/s", "100/fortnight", "-1/s", "1.5/s", "100 vectors/s", "100/s; 1/m"]
)
def test_what_is_no_limit_is_refused_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"GPUCTL_RATE_LIMIT=.*is no limit; write for example 100/s"):
        Settings.load({"GPUCTL_RATE_LIMIT": text})


def test_a_burst_of_one_period_passes_then_the_rate_holds() -> None:
    limited, clock = limiter("10/s")
    assert [limited.admit(b"a") for _ in range(10)] == [None] * 10
    wait, limit = limited.admit(b"a") or (0, None)
    assert (wait, limit) == (1, Limit(10, 1, "requests"))
    clock.now += 0.1
    assert limited.admit(b"a") is None
    assert limited.admit(b"a") is not None
    clock.now += 1000
    assert sum(limited.admit(b"a") is None for _ in range(20)) == 10


def test_each_key_has_its_own_and_a_refused_request_costs_nothing() -> None:
    limited, clock = limiter("1/min")
    assert limited.admit(b"a") is None
    for _ in range(5):
        assert limited.admit(b"a") == (60, Limit(1, 60, "requests"))
    assert limited.admit(b"b") is None
    clock.now += 60
    assert limited.admit(b"a") is None


def test_tokens_are_paid_for_after_the_answer_and_a_debt_is_waited_off() -> None:
    limited, clock = limiter("100 tokens/s")
    assert limited.admit(b"a") is None
    limited.charge(b"a", 350)
    assert limited.admit(b"a") == (3, Limit(100, 1, "tokens"))
    clock.now += 2.4
    assert limited.admit(b"a") is not None
    clock.now += 0.2
    assert limited.admit(b"a") is None


@given(
    amount=st.integers(1, 50),
    steps=st.lists(st.floats(0, 0.5, allow_nan=False), max_size=200),
)
def test_over_any_time_no_more_pass_than_one_burst_and_the_rate(amount: int, steps: list[float]) -> None:
    limited, clock = limiter(f"{amount}/s")
    passed = 0
    for step in steps:
        clock.now += step
        passed += limited.admit(b"a") is None
    assert passed <= amount + amount * clock.now + 1e-6


@given(st.integers(1, 1000), st.sampled_from(["s", "min", "h"]), st.integers(0, 3000))
def test_whoever_waits_as_long_as_told_is_admitted(amount: int, period: str, asked: int) -> None:
    limited, clock = limiter(f"{amount}/{period}")
    refused = None
    for _ in range(min(asked, amount + 1)):
        refused = limited.admit(b"a")
    if refused is not None:
        clock.now += refused[0]
        assert limited.admit(b"a") is None


def test_over_http_a_key_over_its_limit_hears_when_to_come_back(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one\ntwo\n")
    running = serve(Echo(api_keys_file=tmp_path / "keys", rate_limit=parse_limits("2/h")))
    one, two = {"authorization": "Bearer one"}, {"authorization": "Bearer two"}
    body = {"text": "a"}
    assert [running.public.post("/echo", json=body, headers=one).status_code for _ in range(2)] == [200, 200]
    over = running.public.post("/v1/echo", json=body, headers=one)
    assert over.status_code == 429
    assert 1790 < int(over.headers["retry-after"]) <= 1800
    assert over.json()["error"]["code"] == "rate_limit_exceeded"
    assert over.json()["error_type"] == "Overloaded"
    assert "2 requests every 3600 seconds" in over.json()["message"]
    assert running.public.post("/echo", json=body, headers=two).is_success
    # Probes, scrapes and facts are free, and so is the keeper's side.
    for _ in range(4):
        assert running.public.get("/health").is_success
        assert running.public.get("/metrics").is_success
        assert running.public.get("/info", headers=one).is_success
        assert running.private.post("/echo", json=body).is_success
    text = running.public.get("/metrics").text
    assert 'gpuctl_rejected_total{reason="rate_limited"} 1.0' in text
    assert 'gpuctl_requests_total{code="429",route="/v1/echo"} 1.0' in text


def test_without_keys_everybody_shares_one_limit_and_answers_cost_what_they_say(serve: Serve) -> None:
    running = serve(Echo(rate_limit=parse_limits("100 tokens/h")))
    assert running.public.post("/costly", json={"text": "x" * 99}).is_success
    assert running.public.post("/costly", json={"text": "x" * 50}).is_success
    assert running.public.post("/costly", json={"text": "x"}).status_code == 429
