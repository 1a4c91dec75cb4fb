"""Documents are data: a pickle that names anything else is not run, and lines say where they are wrong."""

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.migration.documents import found_beside, read_documents
from gpuctl_serving.migration.problems import MigrationProblem


def _state(self: Any) -> dict[str, Any]:
    # As pydantic 2 writes a model.
    return {"__dict__": dict(self.__dict__), "__pydantic_fields_set__": {"page_content"}}


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Classes under the names that LangChain's pickles carry; the reader never imports them."""
    made = []
    for module, name, methods in (
        ("langchain_community.docstore.in_memory", "InMemoryDocstore", {}),
        ("langchain_core.documents.base", "Document", {"__getstate__": _state}),
    ):
        made.append(type(name, (), {"__module__": module, **methods}))
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            full = ".".join(parts[:depth])
            monkeypatch.setitem(sys.modules, full, types.ModuleType(full))
        monkeypatch.setattr(sys.modules[module], name, made[-1], raising=False)
    return made[0], made[1]


def test_a_langchain_store_gives_its_documents_by_row(tmp_path: Path, langchain: tuple[type, type]) -> None:
    documents = {}
    for name, text, metadata in (("a", "first", {"source": "x.md"}), ("b", "second", {})):
        documents[name] = langchain[1]()
        documents[name].__dict__.update(page_content=text, metadata=metadata)
    store = langchain[0]()
    store.__dict__["_dict"] = documents
    path = tmp_path / "index.pkl"
    path.write_bytes(pickle.dumps((store, {0: "a", 1: "b", 2: "gone"})))
    found = read_documents(path)
    assert {row: (one.id, one.text, one.metadata) for row, one in found.items()} == {
        0: ("a", "first", {"source": "x.md"}),
        1: ("b", "second", {}),
    }


class _Attack:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, (f"touch {self._target}",))


def test_a_pickle_that_names_a_function_is_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "index.pkl", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps((_Attack(proof), {})))
    with pytest.raises(MigrationProblem, match=r"it names (posix|nt)\.system; it was not run"):
        read_documents(path)
    assert not proof.exists()


@pytest.mark.parametrize("raw", [b"", b"garbage", b"\x80\x04.", pickle.dumps({"a": 1}), pickle.dumps((1, 2))])
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "index.pkl"
    path.write_bytes(raw)
    with pytest.raises(MigrationProblem, match="LangChain document store"):
        read_documents(path)


def test_json_lines_count_from_zero_unless_they_say_their_row(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text('{"id":"a","text":"x"}\n\n{"id":7,"row":5,"metadata":{"n":1}}\n{"text":"y"}\n')
    found = read_documents(path)
    assert {row: one.id for row, one in found.items()} == {0: "a", 5: 7, 2: "row-2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id":"a"}\n{"id":', "line 2, column"),
        ("[1]\n", "line 1 is not an object"),
        ('{"row":0}\n{"row":0}\n', "line 2: `row` is 0"),
        ('{"id":"a\\nb"}\n', "printable"),
        ('{"id":true}\n', "has the id 'True'"),
        ('{"id":9223372036854775808}\n', "64 bits"),
        ('{"text":1}\n', "text is not a string"),
        ('{"text":"%s"}\n' % ("x" * 1_000_001), "1000001 characters"),
        ('{"metadata":{"x":"%s"}}\n' % ("x" * 65_536), "larger than 65536 bytes"),
        ('{"metadata":[1]}\n', "metadata is not an object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text(text)
    with pytest.raises(MigrationProblem, match=said):
        read_documents(path)


def test_what_lies_beside_the_index_is_found(tmp_path: Path) -> None:
    index = tmp_path / "index.faiss"
    assert found_beside(index) is None
    (tmp_path / "index.pkl").touch()
    assert found_beside(index) == tmp_path / "index.pkl"
