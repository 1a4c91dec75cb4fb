"""Reads the pickle that LangChain writes beside a FAISS file without running anything that it names.

A pickle is a program: it may name any function of any module and have it called. Here every name is looked up
in a closed list of classes of ours that only hold data; any other name ends the reading and is said.
"""

import io
import pickle
from typing import Any

from gpuctl_serving.migration.problems import MigrationProblem

_STORES = {
    ("langchain_community.docstore.in_memory", "InMemoryDocstore"),
    ("langchain.docstore.in_memory", "InMemoryDocstore"),
}
_DOCUMENTS = {
    ("langchain_core.documents.base", "Document"),
    ("langchain.schema.document", "Document"),
    ("langchain.schema", "Document"),
    ("langchain.docstore.document", "Document"),
}


class Inert:
    """Stands for an object of the pickle: keeps its state as it was written and does nothing."""

    def __init__(self, *_: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        # pydantic 1 and 2 write {"__dict__": {...}, ...}; plain objects write their attributes.
        if isinstance(state, tuple):
            state = next((part for part in state if isinstance(part, dict)), {})
        inner = state.get("__dict__") if isinstance(state, dict) else None
        self.state = inner if isinstance(inner, dict) else state if isinstance(state, dict) else {}


class _Store(Inert):
    pass


class _Document(Inert):
    pass


class _Names(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STORES:
            return _Store
        if (module, name) in _DOCUMENTS:
            return _Document
        if (module, name) in {("builtins", "set"), ("__builtin__", "set")}:
            return set
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, _: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside itself")


def langchain_rows(path: str, raw: bytes) -> dict[int, dict[str, Any]]:
    """Row of the index -> {"id", "text", "metadata"}. Raises MigrationProblem when it is not plain data."""
    try:
        value = _Names(io.BytesIO(raw)).load()
    except Exception as refused:  # A pickle can raise anything; whatever it raised, nothing of it is used.
        raise MigrationProblem(
            f"{path} is not a LangChain document store of plain data",
            f"{refused}; it was not run",
            'write the documents as JSON lines {"id", "text", "metadata"}, one for each row, and give '
            "that file with --documents",
        ) from refused
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], _Store)):
        raise MigrationProblem(
            f"{path} is not a LangChain document store",
            "LangChain writes a pair of a document store and its row numbers",
            "give the index.pkl that belongs to the FAISS file with --documents",
        )
    store, rows = value
    documents = store.state.get("_dict")
    if not isinstance(documents, dict) or not isinstance(rows, dict):
        raise MigrationProblem(
            f"{path} holds no documents",
            "its store has no dictionary of documents, or no row numbers",
            "give the index.pkl that belongs to the FAISS file with --documents",
        )
    return {int(row): _one(str(name), documents.get(name)) for row, name in rows.items() if name in documents}


def _one(name: str, document: Any) -> dict[str, Any]:
    state = document.state if isinstance(document, Inert) else {}
    metadata = state.get("metadata")
    return {
        "id": name,
        "text": state.get("page_content"),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }
