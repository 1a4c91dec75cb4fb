"""The one place that imports FAISS, whose own type hints are too partial to be believed."""

from typing import Any

import faiss as _faiss

faiss: Any = _faiss
