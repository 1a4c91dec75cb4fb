"""The first step: can this file be taken over, and would it answer as it does today? Changes nothing."""

from typing import Any

import numpy as np

from gpuctl_serving.index.ids import ItemId
from gpuctl_serving.migration import peers
from gpuctl_serving.migration.documents import row_name
from gpuctl_serving.migration.material import Material, Row
from gpuctl_serving.migration.problems import MigrationProblem

#: Vectors of other lengths than one keep their order under cosine only when all lengths are alike.
_SAME_LENGTH = 1.02
#: Texts embedded again to see whether their vectors come from the model that is deployed.
_IDENTITY_TEXTS = 16
#: Mean cosine of vectors of one model in two precisions; two models are far below.
_SAME_MODEL = 0.98
_LOSSY_MODEL = 0.90


def check(material: Material) -> dict[str, Any]:
    """Everything found. Raises MigrationProblem at the first thing that forbids the migration."""
    spec, kind = material.spec, material.source.kind
    if kind.count == 0:
        raise MigrationProblem(
            f"{spec.source} holds no vectors", "it was written empty", "give the file that is in use"
        )
    _dimension(material)
    shortest, longest, useless = material.lengths()
    if useless and not spec.re_embed:
        raise MigrationProblem(
            f"{useless} of {kind.count} vectors cannot be used",
            "they are all zeros, or hold values that are not finite",
            "run it again with --re-embed, which makes the vectors from the texts",
        )
    documents = _documents(material)
    warnings = _warnings(material, documents, shortest, longest)
    return {
        "source": {
            "path": str(spec.source),
            "type": kind.type,
            "dimension": kind.dimension,
            "vectors": kind.count,
            "metric": kind.metric,
            "lossy": kind.lossy,
            "lengths": [round(shortest, 6), round(longest, 6)],
        },
        "documents": documents,
        "model": _model(material),
        "warnings": warnings,
    }


def _dimension(material: Material) -> None:
    spec, kind = material.spec, material.source.kind
    if spec.dimension is not None and spec.dimension != kind.dimension:
        raise MigrationProblem(
            f"{spec.source} has {kind.dimension} dimensions",
            f"--dimension says {spec.dimension}",
            f"use --dimension {kind.dimension}, or give the file that belongs to the model",
        )
    served = int(peers.stats(spec.index).get("dimension") or 0)
    if served and served != kind.dimension and not spec.re_embed:
        raise MigrationProblem(
            f"{spec.source} has {kind.dimension} dimensions",
            f"the index serves a model of {served}",
            "run it again with --re-embed, or deploy the model that made these vectors",
        )


def _documents(material: Material) -> dict[str, Any]:
    spec, found = material.spec, material.documents
    count, matched, texts = material.source.kind.count, 0, 0
    names: set[ItemId] = set()
    for labels, _ in material.source.chunks():
        for label in labels.tolist():
            document = found.get(label)
            name = document.id if document else row_name(label)
            if name in names:
                raise MigrationProblem(
                    f"the id {name!r} is given to more than one row",
                    "ids name an item, so one of them would be lost",
                    "give every row an id of its own, in the documents or in the FAISS id map",
                )
            names.add(name)
            matched += document is not None
            texts += bool(document and (document.text or "").strip())
    if spec.re_embed and texts < count:
        raise MigrationProblem(
            f"{count - texts} of {count} rows have no text",
            "--re-embed makes vectors from texts",
            "give the documents with --documents, or leave --re-embed out",
        )
    return {
        "file": str(material.documents_file) if material.documents_file else None,
        "matched": matched,
        "withText": texts,
        "unused": len(found) - matched,
    }


def _warnings(material: Material, documents: dict[str, Any], shortest: float, longest: float) -> list[str]:
    kind, spec, said = material.source.kind, material.spec, []
    if kind.lossy and not spec.re_embed:
        if not spec.accept_lossy:
            raise MigrationProblem(
                f"{spec.source} is a {kind.type}, which keeps only approximations of its vectors",
                "what it lost cannot be brought back from it",
                "run it again with --re-embed (exact, needs the texts), or with --accept-lossy",
            )
        said.append(f"the vectors of a {kind.type} are approximations; texts were not embedded again")
    if longest > shortest * _SAME_LENGTH and not spec.re_embed:
        said.append(
            f"vectors have lengths from {shortest:.3g} to {longest:.3g}: the index compares by cosine, so "
            "the order may differ from the source's; the recall below says by how much"
        )
    missing = kind.count - documents["matched"]
    if missing:
        said.append(f"{missing} vectors have no document: they become items named row-<n> without a text")
    if documents["unused"]:
        said.append(f"{documents['unused']} documents belong to no vector and are left out")
    return said


def _model(material: Material) -> dict[str, Any]:
    """Whether the deployed embedder gives these vectors for these texts."""
    spec = material.spec
    if spec.re_embed:
        return {"checked": False, "because": "vectors are made again"}
    rows = [row for row in material.sample(512) if (row.document.text or "").strip()][:_IDENTITY_TEXTS]
    if not rows or spec.embedder is None:
        if spec.assume_same_model:
            return {"checked": False, "because": "--assume-same-model was given"}
        raise MigrationProblem(
            "it cannot be seen which model made these vectors",
            "there is no text to embed again" if spec.embedder else "the environment has no embedder",
            "give the texts with --documents, or --assume-same-model when you are sure",
        )
    similarity = _similarity(rows, peers.embed(spec.embedder, [row.document.text or "" for row in rows]))
    floor = _LOSSY_MODEL if material.source.kind.lossy else _SAME_MODEL
    if similarity < floor and not spec.assume_same_model:
        raise MigrationProblem(
            "these vectors were not made by the deployed embedding model",
            f"{len(rows)} texts embedded again have a mean cosine of {similarity:.3f} to their vectors; "
            f"the same model gives at least {floor}",
            "deploy the model that made them, or run it again with --re-embed",
        )
    return {"checked": True, "texts": len(rows), "meanCosine": round(similarity, 6)}


def _similarity(rows: list[Row], again: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    stored = np.stack([row.vector for row in rows]).astype(np.float64)
    if stored.shape != again.shape:
        return 0.0
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    fresh = again / np.linalg.norm(again, axis=1, keepdims=True)
    return float((stored * fresh).sum(axis=1).mean())
