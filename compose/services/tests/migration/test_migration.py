"""A whole migration against a running index: checked, backed up, loaded aside, measured, switched, undone."""

import signal
import time
from typing import Any

import faiss
import pytest

from tests.migration.conftest import DIMENSION, World


def test_a_file_is_taken_over_and_given_back(world: World) -> None:
    world.write(300)
    world.post("add", {"items": [{"id": "before", "vector": [1.0] * DIMENSION}]})
    status, result = world.run()
    assert status == 0, result
    assert result["check"]["model"]["meanCosine"] == pytest.approx(1.0, abs=1e-5)
    assert result["load"]["items"] == 300
    assert (result["verify"]["recall"], result["verify"]["sourceRecall"]) == (1.0, 1.0)
    assert world.found("text 17")[0] == "doc-17"
    assert world.found("x", result["switch"]["kept"]) == ["before"]
    assert (world.directory / "backup/old.faiss").read_bytes() == world.file.read_bytes()
    assert (world.directory / "index/snapshots" / result["backup"]["indexSnapshot"]).is_dir()
    assert world.run(action="undo")[0] == 0
    assert world.found("x") == ["before"]


def test_a_check_changes_nothing(world: World) -> None:
    world.write(20)
    status, result = world.run(action="check")
    assert (status, result["check"]["source"]["type"]) == (0, "IndexFlatL2")
    assert not (world.directory / "backup").exists()
    assert world.found("text 1") == []


def test_a_second_run_finds_everything_done(world: World) -> None:
    world.write(50)
    first = world.run()[1]
    again = world.run()[1]
    assert {step: again[step] for step in ("load", "switch")} == {
        step: first[step] for step in ("load", "switch")
    }
    assert world.found("text 3")[0] == "doc-3"


def test_killed_while_loading_it_goes_on_where_it_was(world: World) -> None:
    world.write(6000)
    journal = world.directory / "backup/migration.json"
    child = world.start()
    until = time.monotonic() + 30
    while not (journal.exists() and '"upto": 1' in journal.read_text()):
        assert time.monotonic() < until, "it never got so far"
        assert child.poll() is None, "it was too fast to be killed"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert world.found("text 5") == [], "nothing is served before the switch"
    status, result = world.run()
    assert status == 0, result
    assert result["verify"]["recall"] == 1.0
    assert world.found("text 5999")[0] == "doc-5999"


def test_vectors_of_another_model_are_refused_unless_made_again(world: World) -> None:
    world.write(40)
    world.embedder.model = "two"
    status, said = world.run()
    assert (status, "not made by the deployed embedding model" in said["message"]) == (1, True)
    assert "--re-embed" in said["next"]
    status, result = world.run(reEmbed=True)
    assert status == 0, result
    assert world.found("text 7")[0] == "doc-7"


def test_an_index_that_lost_too_much_stays_out_of_service(world: World) -> None:
    def compressed(rows: Any) -> Any:
        index = faiss.index_factory(DIMENSION, "IVF4,PQ2x4")
        index.train(rows)
        index.add(rows)
        return index

    world.write(1200, compressed)
    status, said = world.run()
    assert (status, "approximations" in said["message"]) == (1, True)
    # As good as the source, which is not good: allowed when it is said.
    status, result = world.run(acceptLossy=True, assumeSameModel=True, recallLoss=1.0)
    assert status == 0, result
    assert 0 < result["verify"]["sourceRecall"] < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dimension": 16}, "--dimension 8"),
        ({"indexPath": "/nowhere/index.faiss"}, "--index-path"),
        ({"backupDir": "/proc/nowhere"}, "--backup-dir"),
        ({"index": {"address": "unix:/nowhere.sock", "patience": 0.1}}, "gpuctl status"),
    ],
)
def test_what_cannot_be_done_says_the_next_step(world: World, change: dict[str, Any], said: str) -> None:
    world.write(10)
    status, result = world.run(**change)
    assert (status, said in result["next"]) == (1, True), result
    assert world.found("text 1") == []
