"""The one place that imports FAISS, whose own type hints are too partial to be believed."""

import os
from pathlib import Path
from typing import Any

# FAISS's threads sleep while they wait: the cores are shared, and two that spin on small work take longer
# than one alone. Read when the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss as _faiss

faiss: Any = _faiss

#: Bytes handed to the file at once.
_CHUNK = 1 << 20


def write_index(index: Any, path: Path) -> None:
    """Writes an index as a file. Raises OSError when the disk does not take all of it.

    FAISS's own writer leaves the end in a buffer, and a full disk then cuts the file without a word.
    """
    with path.open("wb", buffering=_CHUNK) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, _CHUNK))
