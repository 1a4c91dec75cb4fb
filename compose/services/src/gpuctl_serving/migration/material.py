"""The source with its documents, opened once: what the steps of a migration work on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpuctl_serving.migration.documents import Document, found_beside, read_documents, row_name
from gpuctl_serving.migration.faiss_source import FaissSource, Matrix
from gpuctl_serving.migration.journal import sha256_of
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.spec import Spec


@dataclass(frozen=True)
class Row:
    """One vector of the source with its document; a vector without one gets the name of its row."""

    label: int
    vector: Matrix
    document: Document


class Material:
    """Everything read from the source. Nothing here writes."""

    def __init__(self, spec: Spec) -> None:
        if not spec.source.is_file():
            raise MigrationProblem(
                f"{spec.source} is not a file", "there is nothing at that path", "check --index-path"
            )
        self.spec = spec
        self.documents_file = Path(spec.documents) if spec.documents else found_beside(spec.source)
        self.source = FaissSource(spec.source)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this the same migration when it is run again."""
        documents = self.documents_file
        return {
            "index": sha256_of(self.spec.source),
            "documents": sha256_of(documents) if documents else None,
            "namespace": self.spec.namespace,
            "reEmbed": self.spec.re_embed,
        }

    @cached_property
    def documents(self) -> Mapping[int, Document]:
        """Label -> document."""
        return read_documents(self.documents_file) if self.documents_file else {}

    @property
    def short(self) -> str:
        """Names the source's content in names of namespaces."""
        return str(self.identity["index"])[:8]

    @property
    def staging(self) -> str:
        """The namespace that is filled before the switch."""
        documents = str(self.identity["documents"] or "")[:4]
        return f"{self.spec.namespace}~migrating-{self.short}{documents}"

    def rows(self) -> Iterator[Row]:
        """Every vector, always in the same order."""
        for labels, vectors in self.source.chunks():
            for label, vector in zip(labels.tolist(), vectors, strict=True):
                yield Row(label, vector, self.documents.get(label) or Document(row_name(label), None, {}))

    def sample(self, most: int) -> list[Row]:
        """Rows spread over the whole source."""
        step = max(1, self.source.kind.count // most)
        chosen = [row for number, row in enumerate(self.rows()) if number % step == 0]
        return chosen[:most]

    def lengths(self) -> tuple[float, float, int]:
        """(shortest, longest, vectors that are not finite or have no length) of all vectors."""
        low, high, useless = float("inf"), 0.0, 0
        for _, vectors in self.source.chunks():
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
            good = np.isfinite(lengths) & (lengths > 0)
            useless += int((~good).sum())
            if good.any():
                low, high = min(low, float(lengths[good].min())), max(high, float(lengths[good].max()))
        return low, high, useless
