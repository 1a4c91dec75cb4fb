"""Keys are exchanged without a restart, and no state of the file on its way locks everybody out or in."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.echo import Echo
from tests.support.running import Running

from gpuctl_serving.kit.auth import ApiKeys
from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.kit.settings import Settings, SettingsError

Serve = Callable[[ServiceBase], Running]


class Times:
    """Both clocks of a key ring, moved by hand; the file's own times are real."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.offset = 0.0

    def monotonic(self) -> float:
        return self.passed

    def wall(self) -> float:
        # Long before any file was written: its own times never say that it is settled.
        return self.offset


def ring(path: Path, times: Times) -> tuple[ApiKeys, list[int | None]]:
    keys = ApiKeys(path, clock=times.monotonic, wall=times.wall)
    changes: list[int | None] = []
    keys.on_change = changes.append
    return keys, changes


def admits(keys: ApiKeys, key: str) -> bool:
    return keys.recognise(f"Bearer {key}") is not None


def wait(keys: ApiKeys, times: Times, seconds: float = 1.0) -> None:
    """Time passes while somebody keeps asking."""
    for _ in range(int(seconds / 0.25)):
        times.passed += 0.25
        keys.recognise("Bearer nobody")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("old\n")
    return file


def replace(path: Path, content: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(content)
    fresh.rename(path)


@pytest.mark.parametrize("write", [replace, Path.write_text])
def test_a_changed_file_counts_within_a_second(path: Path, write: Callable[[Path, str], object]) -> None:
    times = Times()
    keys, changes = ring(path, times)
    write(path, "old\nnew\n")
    wait(keys, times)
    assert (admits(keys, "old"), admits(keys, "new"), changes) == (True, True, [2])
    write(path, "new\n")
    wait(keys, times)
    assert (admits(keys, "old"), admits(keys, "new"), changes) == (False, True, [2, 1])


def test_a_file_in_the_middle_of_being_written_gives_nobody_half_a_key(path: Path) -> None:
    times = Times()
    keys, changes = ring(path, times)
    with path.open("w") as writing:
        for part in ("new-", "secret-", "key", "\n"):
            writing.write(part)
            writing.flush()
            wait(keys, times, 0.25)
            assert not admits(keys, "new-")
            assert not admits(keys, "new-secret-")
            assert admits(keys, "old")
    wait(keys, times)
    assert (admits(keys, "new-secret-key"), admits(keys, "old"), changes) == (True, False, [1])


def test_a_file_that_is_emptied_gone_or_unreadable_keeps_the_old_keys_and_says_so(path: Path) -> None:
    times = Times()
    keys, changes = ring(path, times)
    path.write_text("")
    wait(keys, times)
    path.unlink()
    wait(keys, times)
    path.write_bytes(b"\xff\xfe\n")
    wait(keys, times)
    path.unlink()
    path.mkdir()
    wait(keys, times)
    assert admits(keys, "old")
    assert changes == [None, None, None, None]
    path.rmdir()
    path.write_text("back\n")
    wait(keys, times)
    assert (admits(keys, "back"), admits(keys, "old"), changes[-1]) == (True, False, 1)


def test_links_that_are_exchanged_count_like_the_files_behind_them(tmp_path: Path) -> None:
    """Kubernetes exchanges the directory behind a mounted secret."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "API_KEYS").write_text(f"{name}\n")
    current = tmp_path / "current"
    current.symlink_to("first")
    times = Times()
    keys, _ = ring(current / "API_KEYS", times)
    fresh = tmp_path / "fresh"
    fresh.symlink_to("second")
    fresh.rename(current)
    wait(keys, times)
    assert (admits(keys, "first"), admits(keys, "second")) == (False, True)


def test_after_a_quiet_hour_the_first_request_already_meets_the_new_keys(path: Path) -> None:
    times = Times()
    keys, _ = ring(path, times)
    path.write_text("new\n")
    times.passed += 3600
    times.offset = path.stat().st_ctime + 3600
    assert (admits(keys, "new"), admits(keys, "old")) == (True, False)


def test_a_key_need_not_be_ascii_and_is_compared_whole(path: Path) -> None:
    path.write_text("schlüssel\nà\n")
    keys, _ = ring(path, Times())
    for key in ("schlüssel", "à"):
        assert admits(keys, key.encode().decode("latin-1"))
    for wrong in ("schl", "schlüssel", "a", ""):
        assert not admits(keys, wrong)


def test_rotation_under_load_never_refuses_a_key_that_stays(serve: Serve, path: Path) -> None:
    path.write_text("stays\n")
    running = serve(Echo(api_keys_file=path))
    ending = threading.Event()
    statuses: set[int] = set()

    def ask() -> None:
        while not ending.is_set():
            answer = running.public.post(
                "/echo", json={"text": "a"}, headers={"authorization": "Bearer stays"}
            )
            statuses.add(answer.status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for n in range(60):
            # Alternately a clean replacement and a careless one.
            (replace if n % 2 else Path.write_text)(path, f"key-{n}\nstays\n")
            ending.wait(0.01)
        assert wait_until(lambda: 'gpuctl_key_reloads_total{outcome="changed"} 0.0' not in metrics(running))
    finally:
        ending.set()
        asking.join()
    assert statuses == {200}
    assert "gpuctl_api_keys 2.0" in metrics(running)


def test_a_kept_ring_is_a_metric_and_a_line_without_the_key(
    serve: Serve, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("top-secret\n")
    running = serve(Echo(api_keys_file=path))
    path.write_text("")
    os.utime(path)

    def seen() -> bool:
        running.public.post("/echo", json={"text": "a"}, headers={"authorization": "Bearer top-secret"})
        return 'gpuctl_key_reloads_total{outcome="kept"} 1.0' in metrics(running)

    assert wait_until(seen)
    assert "keys-kept" in caplog.text
    assert "top-secret" not in caplog.text


def metrics(running: Running) -> str:
    return running.public.get("/metrics").text


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        threading.Event().wait(0.05)
    return False


def test_metrics_answer_everybody_or_only_a_key_as_it_is_configured(serve: Serve, path: Path) -> None:
    key = {"authorization": "Bearer old"}
    opened, closed = (serve(Echo(api_keys_file=path, metrics=policy)) for policy in ("open", "key"))
    for metrics in ("/metrics", "/metrics/gpu"):
        assert opened.public.get(metrics).status_code == 200
        refused = closed.public.get(metrics)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "gpuctl_" not in refused.text
        assert closed.public.get(metrics, headers=key).status_code == 200
        assert closed.private.get(metrics).status_code == 200
    for health in ("/health", "/health/live", "/health/ready", "/health/traffic"):
        assert closed.public.get(health).status_code == 200


def test_metrics_that_need_a_key_where_there_are_none_are_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="GPUCTL_METRICS=key needs keys"):
        Echo(metrics="key")
    assert Settings.load({})[0].metrics == "open"
    with pytest.raises(SettingsError, match="must be one of open, key"):
        Settings.load({"GPUCTL_METRICS": "closed"})
