"""The one place that imports FAISS, whose own type hints are too partial to be believed."""

import os
from typing import Any

# FAISS's threads sleep while they wait: the cores are shared, and two that spin on small work take longer
# than one alone. Read when the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss as _faiss

faiss: Any = _faiss
