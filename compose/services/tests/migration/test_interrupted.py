"""A migration that dies, runs twice, is undone, or finds its index changed: nothing is mixed up."""

import json
from typing import Any

import faiss
import numpy as np
import pytest

from gpuctl_serving.migration.documents import Document
from gpuctl_serving.migration.journal import Journal
from gpuctl_serving.migration.material import Row
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.steps import _batches
from tests.migration.conftest import DIMENSION, World


def journal(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.directory / "backup/migration.json").read_text())
    return found


def forget(world: World, step: str) -> None:
    """As after a death between a step and its record."""
    value = journal(world)
    del value["steps"][step]
    (world.directory / "backup/migration.json").write_text(json.dumps(value))


def before(world: World) -> None:
    world.post("add", {"items": [{"id": "before", "vector": [1.0] * DIMENSION}]})


def test_a_switch_that_was_done_and_not_recorded_is_not_done_again(world: World) -> None:
    world.write(30)
    before(world)
    first = world.run()[1]
    forget(world, "switch")
    status, again = world.run()
    assert (status, again["switch"]) == (0, first["switch"])
    assert world.found("text 3")[0] == "doc-3"
    assert world.found("x", again["switch"]["kept"]) == ["before"]


def test_an_undo_that_was_done_and_not_recorded_is_not_done_again(world: World) -> None:
    world.write(30)
    before(world)
    world.run()
    whole = journal(world)
    undone = world.run(action="undo")[1]["undo"]
    whole["notes"]["undo"] = undone
    (world.directory / "backup/migration.json").write_text(json.dumps(whole))
    assert world.run(action="undo")[1]["undo"] == undone
    assert world.found("x") == ["before"]


def test_an_undo_needs_no_file_keeps_what_was_written_since_and_is_done_once(world: World) -> None:
    world.write(30)
    before(world)
    world.run()
    world.post("add", {"items": [{"id": "since", "vector": world.embedder.vector("since")}]})
    world.file.rename(world.directory / "moved.faiss")
    undone = world.run(action="undo")[1]["undo"]
    assert (undone["items"], undone["itemsKept"]) == (1, 31)
    assert world.found("x") == ["before"]
    assert world.found("since", undone["kept"])[0] == "since"
    status, said = world.run(action="undo")
    assert (status, said["message"]) == (1, "there is nothing to undo")
    (world.directory / "moved.faiss").rename(world.file)
    assert world.run()[0] == 0
    assert str(world.found("since")[0]).startswith("doc-"), "the second migration is of the file alone"


def test_an_undo_of_a_migration_into_an_empty_namespace_empties_it(world: World) -> None:
    world.write(30)
    world.run()
    undone = world.run(action="undo")[1]["undo"]
    assert world.found("text 3") == []
    assert world.found("text 3", undone["kept"])[0] == "doc-3"


def test_two_files_after_each_other_are_undone_one_by_one(world: World) -> None:
    world.write(30)
    before(world)
    one = {"backupDir": str(world.directory / "one")}
    two = {"backupDir": str(world.directory / "two")}
    assert world.run(**one)[0] == 0
    world.write(40)
    assert world.run(**two)[0] == 0
    assert world.found("text 35")[0] == "doc-35"
    assert world.run(action="undo", **two)[0] == 0
    assert "doc-35" not in world.found("text 35")
    assert world.run(action="undo", **one)[0] == 0
    assert world.found("x") == ["before"]


def test_a_second_one_with_the_same_journal_is_refused_while_the_first_runs(world: World) -> None:
    world.write(20)
    held = Journal(world.directory / "backup", {"namespace": "default"})
    status, said = world.run()
    assert (status, "another migration is running" in said["message"]) == (1, True)
    assert held.namespace == "default"


def test_after_a_refusal_it_goes_on_with_re_embed_in_the_same_place(world: World) -> None:
    world.write(40)
    status, said = world.run(recallLoss=-1.0)
    assert (status, "--re-embed" in said["next"]) == (1, True)
    status, result = world.run(reEmbed=True)
    assert status == 0, result
    assert (result["verify"]["recall"], result["verify"]["sourceRecall"]) == (1.0, None)


def test_vectors_of_another_dimension_are_made_again(world: World) -> None:
    world.write(40)
    index = faiss.IndexFlatIP(16)
    index.add(np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32))
    faiss.write_index(index, str(world.file))
    assert "--re-embed" in world.run()[1]["next"]
    status, result = world.run(reEmbed=True)
    assert status == 0, result
    assert world.found("text 9")[0] == "doc-9"


def test_what_was_loaded_and_is_gone_is_loaded_again(world: World) -> None:
    world.write(40)
    world.run(recallLoss=-1.0)
    staging = journal(world)["steps"]["load"]["namespace"]
    world.post("delete", {"namespace": staging, "ids": ["doc-1", "doc-2"]})
    status, said = world.run()
    assert (status, said["message"]) == (1, "the index holds 38 of 40 migrated items")
    assert world.run()[0] == 0
    assert world.found("text 2")[0] == "doc-2"


def test_items_of_somebody_else_never_come_into_service(world: World) -> None:
    world.write(40)
    world.run(recallLoss=-1.0)
    staging = journal(world)["steps"]["load"]["namespace"]
    foreign = {"id": "foreign", "vector": world.embedder.vector("foreign")}
    world.post("add", {"namespace": staging, "items": [foreign]})
    assert world.run()[1]["message"] == "the index holds 41 of 40 migrated items"
    status, result = world.run()
    assert status == 0, result
    assert "foreign" not in world.found("foreign")


def test_a_finished_migration_whose_items_are_gone_is_done_again(world: World) -> None:
    world.write(20)
    world.run()
    world.post("delete", {"ids": [f"doc-{number}" for number in range(20)]})
    assert world.run()[0] == 0
    assert world.found("text 3")[0] == "doc-3"


@pytest.mark.parametrize("clash", ["generated", "mapped"])
def test_rows_that_would_become_one_item_are_refused_before_anything_is_made(
    world: World, clash: str
) -> None:
    world.write(20)
    if clash == "generated":
        world.documents.write_text('{"id": "row-7", "text": "text 0"}')
    else:
        index = faiss.IndexIDMap(faiss.IndexFlatIP(DIMENSION))
        index.add_with_ids(np.ones((2, DIMENSION), np.float32), np.array([5, 5]))
        faiss.write_index(index, str(world.file))
    status, said = world.run(assumeSameModel=True)
    assert (status, "more than one row" in said["message"]) == (1, True), said
    assert not (world.directory / "backup").exists()


def test_numbers_stay_numbers(world: World) -> None:
    world.write(20)
    world.documents.write_text("\n".join(json.dumps({"id": n, "text": f"text {n}"}) for n in range(20)))
    assert world.run()[0] == 0
    assert world.found("text 3")[0] == 3


def test_a_backup_where_the_file_lies_is_refused(world: World) -> None:
    world.write(20)
    status, said = world.run(backupDir=str(world.directory))
    assert (status, "where it lies" in said["message"]) == (1, True)


def test_long_texts_are_sent_a_few_at_a_time() -> None:
    vector = np.zeros(4, np.float32)
    rows = [Row(n, vector, Document(n, "x" * 900_000, {})) for n in range(5)]
    assert [len(batch) for batch in _batches(rows)] == [2, 2, 1]
    assert [len(batch) for batch in _batches(Row(n, vector, Document(n, "", {})) for n in range(600))] == [
        256,
        256,
        88,
    ]


def test_a_journal_that_is_none_is_refused(world: World) -> None:
    (world.directory / "backup").mkdir()
    (world.directory / "backup/migration.json").write_text('{"source": 1}')
    with pytest.raises(MigrationProblem, match="not a migration's journal"):
        Journal(world.directory / "backup", None)
