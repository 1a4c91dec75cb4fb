"""The pure parts: desired state, back-off, run directory, rotation, unit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl_serving.keeper.backoff import BackOff
from gpuctl_serving.keeper.desired import (
    Damaged,
    Desired,
    Exit,
    Listener,
    Restore,
    Wanted,
    closed,
    exited,
    opened,
    started,
    stopped,
)
from gpuctl_serving.keeper.logs import numbered, rotate
from gpuctl_serving.keeper.paths import Paths
from gpuctl_serving.keeper.store import read_desired, write_atomically
from gpuctl_serving.keeper.unit import unit
from gpuctl_serving.kit.process import ProcessIdentity, run_directory

GOLDEN = Path(__file__).parents[4] / "test/golden/run-directory.json"

numbers = st.integers(min_value=0, max_value=2**40)
processes = st.builds(ProcessIdentity, numbers, numbers)
exits = st.builds(Exit, st.none() | st.integers(0, 255), st.none() | st.sampled_from(["SIGKILL", "SIGTERM"]))
wanteds = st.builds(
    Wanted,
    id=st.text(min_size=1, max_size=8),
    desired=st.sampled_from(["started", "open", "closed", "stopped"]),
    process=st.none() | processes,
    restarts=numbers,
    stop_at_ms=st.none() | numbers,
    last_exit=st.none() | exits,
    stopped_by_reboot=st.booleans(),
    restore=st.none() | st.builds(Restore, numbers, st.none() | processes),
)
listeners = st.builds(Listener, st.sampled_from("abc"), st.just("127.0.0.1"), st.integers(1, 65535))
states = st.builds(
    Desired,
    boot_id=st.text(max_size=8),
    token=numbers,
    listeners=st.lists(listeners, max_size=5, unique=True).map(tuple),
    instances=st.lists(wanteds, max_size=4).map(lambda all_: {each.id: each for each in all_}),
)
steps = st.sampled_from([opened, closed, stopped, lambda w: exited(w, Exit(1, None))])


@given(states)
def test_what_is_written_is_what_is_read(state: Desired) -> None:
    assert Desired.from_json(json.loads(json.dumps(state.to_json()))) == state


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_anything_else_is_damaged_and_nothing_worse(value: object) -> None:
    with pytest.raises(Damaged):
        Desired.from_json(value)


@given(states, numbers)
def test_a_token_never_goes_back(state: Desired, token: int) -> None:
    after = state.with_token(token)
    assert after.admits(max(state.token, token))
    assert not after.admits(max(state.token, token) - 1)


@given(states)
def test_a_boot_leaves_no_process_and_no_timer(state: Desired) -> None:
    after = state.after_boot(state.boot_id + "x")
    for each in after.instances.values():
        assert each.process is None
        assert each.stop_at_ms is None
        before = state.instances[each.id]
        assert each.restore is None
        assert each.stopped_by_reboot == (before.desired != "stopped" or before.restore is not None)
        assert before.restore is None or each.desired == "open"
    assert after.listeners == state.listeners
    assert state.after_boot(state.boot_id) is state


@given(wanteds, processes, st.lists(steps, max_size=6))
def test_only_an_open_instance_stays_open_through_restarts(
    wanted: Wanted, process: ProcessIdentity, path: list[Callable[[Wanted], Wanted]]
) -> None:
    for step in path:
        wanted = step(wanted)
    again = started(wanted, process)
    assert again.process == process
    assert again.desired == ("open" if wanted.desired == "open" else "started")
    assert (again.stop_at_ms, again.stopped_by_reboot) == (None, False)


@given(states, st.sets(listeners))
def test_the_current_address_of_every_service_stays(state: Desired, used: set[Listener]) -> None:
    after = state.without_idle_listeners(used)
    assert {each.service: each for each in after.listeners} == {
        each.service: each for each in state.listeners
    }
    assert set(after.listeners) >= used & set(state.listeners)


def test_listening_again_makes_an_address_the_current_one() -> None:
    one, two = Listener("a", "127.0.0.1", 1), Listener("a", "127.0.0.1", 2)
    state = Desired("boot").with_listener(one).with_listener(two).with_listener(one)
    assert state.without_idle_listeners(set()).listeners == (one,)


def test_back_off_doubles_to_thirty_seconds_and_health_resets_it() -> None:
    back_off = BackOff()
    assert [back_off.after(0) for _ in range(10)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert back_off.after(59.9) == 30.0
    assert [back_off.after(60), back_off.after(0)] == [0.2, 0.4]


@pytest.mark.parametrize("vector", json.loads(GOLDEN.read_text())["vectors"], ids=lambda v: v["state"][:20])
def test_the_run_directory_is_where_the_command_line_looks(vector: dict[str, str]) -> None:
    assert run_directory(vector["state"], int(vector["uid"])) == vector["run"]


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="is not a directory"):
        Paths(tmp_path / "state", tmp_path / "state/run").make()


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "desired.json"
    write_atomically(file, Desired("boot").to_json())
    with pytest.raises(TypeError):
        write_atomically(file, {"not": object()})
    assert read_desired(file) == Desired("boot")
    assert file.stat().st_mode & 0o777 == 0o600


def test_five_log_files_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:  # appends, as instances do, and is never told
        for number in range(7):
            writer.write(f"{number}".encode() * 100)
            assert rotate(log, limit=100)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert [numbered(log, n).read_bytes()[:1] for n in (1, 2, 3, 4)] == [b"6", b"5", b"4", b"3"]
    assert not numbered(log, 5).exists()
    assert not rotate(log, limit=100)


def test_of_a_flood_the_newest_part_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"old" * 1000 + b"new" * 10)
    rotate(log, limit=30)
    assert numbered(log, 1).read_bytes() == b"new" * 10


def test_a_unit_restores_and_leaves_instances_alone_when_the_keeper_dies() -> None:
    text = unit(Path("/home/ada/100% $real/state"), Path("/somewhere/$code.whl"))
    assert '"--state" "/home/ada/100%% $$real/state" "--restore"' in text
    assert 'Environment="PYTHONPATH=/somewhere/$code.whl"' in text
    assert "KillMode=process" in text
    assert "KillSignal=SIGINT" in text


def test_an_exit_keeps_the_wish() -> None:
    wanted = Wanted("a", "open", ProcessIdentity(1, 2))
    assert exited(wanted, Exit(1, None)) == replace(wanted, process=None, last_exit=Exit(1, None))
