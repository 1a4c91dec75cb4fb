"""The documents of a FAISS file: LangChain's index.pkl, or JSON lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gpuctl_serving.index.checks import MAX_METADATA, MAX_NAME, MAX_TEXT
from gpuctl_serving.index.ids import LARGEST, SMALLEST, ItemId
from gpuctl_serving.migration.inert_pickle import langchain_rows
from gpuctl_serving.migration.problems import MigrationProblem


@dataclass(frozen=True)
class Document:
    """What belongs to one row of the source."""

    id: ItemId
    text: str | None
    metadata: dict[str, Any]


def read_documents(path: Path) -> Mapping[int, Document]:
    """Label of the source -> document. JSON lines count from 0 unless a line has `row`."""
    try:
        raw = path.read_bytes()
    except OSError as failure:
        raise MigrationProblem(
            f"the documents in {path} cannot be read", failure.strerror or str(failure), "check --documents"
        ) from failure
    if path.suffix in {".pkl", ".pickle"}:
        return {row: _document(path, row, value) for row, value in langchain_rows(str(path), raw).items()}
    return _json_lines(path, raw)


def found_beside(index: Path) -> Path | None:
    """The documents that usually lie beside an index file, when there are any."""
    names = [index.with_suffix(suffix) for suffix in (".pkl", ".jsonl")]
    return next((name for name in names if name.is_file()), None)


def _json_lines(path: Path, raw: bytes) -> dict[int, Document]:
    found: dict[int, Document] = {}
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as wrong:
            raise _wrong(path, f"line {number}, column {wrong.colno}: {wrong.msg}") from wrong
        if not isinstance(value, dict):
            raise _wrong(path, f"line {number} is not an object")
        row = value.get("row", len(found))
        if not isinstance(row, int) or isinstance(row, bool) or row in found:
            raise _wrong(path, f"line {number}: `row` is {row!r}; it must be a whole number that occurs once")
        found[row] = _document(path, row, value)
    return found


def _document(path: Path, row: int, value: dict[str, Any]) -> Document:
    name, text, metadata = value.get("id", row_name(row)), value.get("text"), value.get("metadata") or {}
    if not _is_id(name):
        raise _wrong(
            path,
            f"row {row} has the id {str(name)[:80]!r}; ids have 1 to {MAX_NAME} printable characters, or are "
            "whole numbers of 64 bits",
        )
    if text is not None and not isinstance(text, str):
        raise _wrong(path, f"row {row}: its text is not a string")
    if text is not None and len(text) > MAX_TEXT:
        raise _wrong(path, f"row {row}: its text has {len(text)} characters; at most {MAX_TEXT} fit")
    if not isinstance(metadata, dict):
        raise _wrong(path, f"row {row}: its metadata is not an object")
    try:
        written = orjson.dumps(metadata)
    except TypeError as wrong:
        raise _wrong(path, f"row {row}: its metadata cannot be written as JSON ({wrong})") from wrong
    if len(written) > MAX_METADATA:
        raise _wrong(path, f"row {row}: its metadata is larger than {MAX_METADATA} bytes")
    return Document(name, text, orjson.loads(written))


def row_name(row: int) -> str:
    """The id of a vector that brings none."""
    return f"row-{row}"


def _is_id(name: Any) -> bool:
    if isinstance(name, int) and not isinstance(name, bool):
        return SMALLEST <= name <= LARGEST
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()


def _wrong(path: Path, what: str) -> MigrationProblem:
    return MigrationProblem(
        f"the documents in {path} cannot be used", what, "correct that line and run it again"
    )
