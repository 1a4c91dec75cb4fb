"""The OpenAPI documents: current, complete, and true of what the services answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.index.service import create_service as create_index
from gpuctl_serving.kit.front import Front
from gpuctl_serving.openapi.__main__ import written
from gpuctl_serving.openapi.errors import Error
from gpuctl_serving.openapi.operation import Operation
from gpuctl_serving.openapi.services import OPERATIONS, documents
from gpuctl_serving.reranker.service import create_service as create_reranker
from tests.conftest import SERVICES
from tests.index.support import BASE
from tests.index.support import index as loaded_index
from tests.support.running import Running, run_service

HOW = "Run `npm run generate` and commit compose/services/openapi."


@pytest.fixture(scope="module")
def embedder(tiny: dict[str, Path]) -> Iterator[Running]:
    with run_service(create_embedder({"GPUCTL_MODEL_DIR": str(tiny["tiny-xlmr-embedder"])})) as running:
        yield running


@pytest.fixture(scope="module")
def reranker(tiny: dict[str, Path]) -> Iterator[Running]:
    with run_service(create_reranker({"GPUCTL_MODEL_DIR": str(tiny["tiny-bert-cross-encoder"])})) as running:
        yield running


@pytest.mark.parametrize("service", OPERATIONS)
def test_the_checked_in_document_is_the_one_that_is_made_from_the_code(service: str) -> None:
    file = SERVICES / "openapi" / f"{service}.json"
    assert file.read_text(encoding="utf-8") == written(documents()[service]), HOW


@pytest.mark.parametrize("service", OPERATIONS)
def test_every_public_route_is_described_and_nothing_else_is(service: str, tmp_path: Path) -> None:
    model = {"GPUCTL_MODEL_DIR": str(tmp_path)}
    app = {
        "embedder": lambda: create_embedder(model).app,
        "reranker": lambda: create_reranker(model).app,
        "index": lambda: create_index({"GPUCTL_INDEX_DIR": str(tmp_path)}).app,
    }[service]()
    assert isinstance(app, Front)
    described = {(one.method, one.path) for one in OPERATIONS[service]}
    assert described == app.public_routes, "Describe new routes in gpuctl_serving/openapi."


def test_every_reference_leads_somewhere() -> None:
    for made in documents().values():
        for reference in references(made):
            _, _, part, name = reference.split("/")
            assert name in made["components"][part]


def conforms(operations: list[Operation], method: str, path: str, answer: Any) -> None:
    """The answer has every field that is described, and none that is not."""
    (operation,) = (one for one in operations if (one.method, one.path) == (method, path))
    decoded = msgspec.json.decode(json.dumps(answer), type=operation.answer)
    assert msgspec.to_builtins(decoded) == answer


def described(service: str) -> list[Operation]:
    return list(OPERATIONS[service])


def test_a_models_answers_are_what_the_documents_say(embedder: Running, reranker: Running) -> None:
    for running, service in ((embedder, "embedder"), (reranker, "reranker")):
        for path in ("/health", "/health/live", "/health/ready", "/health/traffic", "/info", "/v1/models"):
            conforms(described(service), "GET", path, running.public.get(path).json())
        one = running.public.get(f"/v1/models/{running.service.model}").json()
        conforms(described(service), "GET", "/v1/models/{model:path}", one)
        for operation in described(service):
            if operation.example is None:
                continue
            answer = running.public.post(operation.path, json=operation.example)
            assert answer.status_code == 200, answer.text
            conforms(described(service), "POST", operation.path, answer.json())


@pytest.mark.parametrize(
    "body",
    [
        {"query": "q", "texts": ["a", "b"]},
        {"query": "q", "texts": ["a", "b"], "return_text": True, "raw_scores": True},
        {"query": "q", "documents": ["a", {"text": "b", "own": 1}, {"content": "c", "metadata": {"n": 1}}]},
        {"query": "q", "documents": ["a"], "return_documents": False},
    ],
)
def test_every_dialect_of_the_reranker_is_described(reranker: Running, body: dict[str, Any]) -> None:
    conforms(described("reranker"), "POST", "/rerank", reranker.public.post("/rerank", json=body).json())


def test_base64_is_described(embedder: Running) -> None:
    body = {"input": "a", "encoding_format": "base64"}
    conforms(
        described("embedder"),
        "POST",
        "/v1/embeddings",
        embedder.public.post("/v1/embeddings", json=body).json(),
    )


def test_an_indexs_answers_are_what_its_document_says(tmp_path: Path) -> None:
    with loaded_index(tmp_path, index_dimension=3) as index:
        item = {"id": "a", "vector": [1.0, 0.0, 0.0], "text": "t", "metadata": {"source": "a.md"}}
        wanted = {
            "add": {"items": [item, {"id": 7, "vector": [0.0, 1.0, 0.0]}]},
            "search": {"vector": [1.0, 0.0, 0.0], "k": 5},
            "items/get": {"ids": ["a", 7, "gone"], "include": ["text", "metadata", "vector"]},
            "items/lookup": {"ids": ["a"]},
            "items/values": {"key": "source"},
        }
        for route, body in wanted.items():
            conforms(described("index"), "POST", f"{BASE}/{route}", index.post(route, body))
        renamed = {"from": "default", "to": "other"}
        conforms(
            described("index"), "POST", f"{BASE}/namespaces/rename", index.post("namespaces/rename", renamed)
        )
        index.post("namespaces/rename", {"from": "other", "to": "default"})
        index.post("add", {"items": [item], "namespace": "removed"})
        removed = index.post("namespaces/remove", {"namespace": "removed"})
        conforms(described("index"), "POST", f"{BASE}/namespaces/remove", removed)
        for kind in ("snapshot", "compact", "rebuild", "verify"):
            job = index.post(kind, {"wait": True})
            conforms(described("index"), "POST", f"{BASE}/{kind}", job)
            one = index.public.get(f"{BASE}/jobs/{job['job']}").json()
            conforms(described("index"), "GET", f"{BASE}/jobs/{{job}}", one)
        common = ("/health", "/health/live", "/health/ready", "/health/traffic", "/info")
        for path in (*common, f"{BASE}/stats", f"{BASE}/jobs"):
            conforms(described("index"), "GET", path, index.public.get(path).json())
        one = index.public.get(f"{BASE}/items/a").json()
        conforms(described("index"), "GET", f"{BASE}/items/{{id:path}}", one)
        conforms(described("index"), "POST", f"{BASE}/delete", index.post("delete", {"ids": ["a"]}))


def test_errors_are_what_the_documents_say(embedder: Running, reranker: Running) -> None:
    answers = [
        embedder.public.post("/embed", content=b"{"),
        embedder.public.post("/v1/embeddings", json={"input": []}),
        embedder.public.get("/nowhere"),
        reranker.public.post("/v2/rerank", json={"query": "q"}),
        reranker.public.get("/v1/models/other"),
    ]
    for answer in answers:
        assert answer.status_code >= 400
        assert msgspec.to_builtins(msgspec.json.decode(answer.content, type=Error)) == answer.json()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)
