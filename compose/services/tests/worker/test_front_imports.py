"""The front never imports a device library: not by its imports, and not while it serves.

The index's does, as FAISS's search on the CPU is in one; it calls nothing there that opens a device.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.services import SOURCES, running

#: What computes, and what builds graphs: heavy, and able to take the process down.
FORBIDDEN = {"onnxruntime", "onnx", "torch", "faiss", "transformers"}
#: Their native parts, as they show up among a process's mappings.
NATIVE = re.compile(r"onnxruntime|libtorch|onnx_cpp2py|libfaiss|libcudart")

#: The package of the index's copy on a GPU.
REPLICA = "gpuctl_serving.index.ann.replica"
#: FAISS's functions for GPUs, and the class of ours that calls them.
OPENS = re.compile(r"get_num_gpus|GpuResources|cpu_to_gpu|cpu_to_all_gpus|^Gpu[A-Z]|^Gpu$")


def imports_of(file: Path) -> Iterator[str]:
    """What a module imports when it is imported: not what its functions import when they are called."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def file_of(module: str) -> Path | None:
    path = SOURCES.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


def reached(start: str) -> dict[str, str]:
    """Every module that importing `start` imports, with the one that does."""
    found, waiting = {start: "the start"}, [start]
    while waiting:
        module = waiting.pop()
        file = file_of(module)
        for name in imports_of(file) if file else ():
            if name not in found:
                found[name] = module
                waiting.append(name)
    return found


@pytest.mark.parametrize("service", ["embedder", "reranker"])
def test_no_import_of_a_service_leads_to_a_device_library(service: str) -> None:
    found = reached(f"gpuctl_serving.{service}.__main__")
    assert "gpuctl_serving.engines.worker.proxy" in found
    guilty = {name: by for name, by in found.items() if name.split(".")[0] in FORBIDDEN}
    assert guilty == {}


def names_in(module: str) -> set[str]:
    """What it takes from elsewhere by a dot: `faiss.get_num_gpus`, `device.Gpu`."""
    file = file_of(module)
    nodes = ast.walk(ast.parse(file.read_text())) if file else ()
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_the_front_of_the_index_names_nothing_of_faiss_that_opens_a_device() -> None:
    found = reached("gpuctl_serving.index.service")
    assert {f"{REPLICA}.device", "faiss"} <= found.keys()
    by_module = {name: {one for one in names_in(name) if OPENS.search(one)} for name in found}
    # This module has the class that opens it; that class is made by the copy's own process alone.
    assert by_module.pop(f"{REPLICA}.device") != set()
    assert {name: opens for name, opens in by_module.items() if opens} == {}
    assert "Gpu" in names_in(f"{REPLICA}.__main__") and f"{REPLICA}.__main__" not in found


def test_the_worker_is_where_they_are_imported() -> None:
    assert "onnxruntime" in reached("gpuctl_serving.engines.onnx_cpu")


@pytest.mark.parametrize(
    ("service", "model", "route", "body"),
    [
        ("embedder", "tiny-xlmr-embedder", "/embed", {"inputs": ["a", "b"]}),
        ("reranker", "tiny-bert-cross-encoder", "/rerank", {"query": "a", "texts": ["b", "c"]}),
    ],
)
def test_a_front_that_serves_has_imported_no_device_library_and_its_worker_has(
    tiny: dict[str, Path], tmp_path: Path, service: str, model: str, route: str, body: object
) -> None:
    # `-X importtime` writes a line for every import of the front; its worker has no such option.
    with running(
        service, tiny[model], tmp_path / "log", options=("-X", "importtime"), GPUCTL_DEVICE="cpu"
    ) as front:
        front.until("/health/ready")
        assert front.ask("POST", route, body).status == 200
        assert front.ask("GET", "/info").status == front.ask("GET", "/metrics").status == 200
        (worker,) = front.workers()
        assert NATIVE.search(Path(f"/proc/{front.pid}/maps").read_text()) is None
        assert NATIVE.search(Path(f"/proc/{worker}/maps").read_text()) is not None
        imported = set(re.findall(r"^import time:.*\| +(\S+)$", front.log.read_text(), re.MULTILINE))
        assert "gpuctl_serving.kit.serve" in imported
        assert {name for name in imported if name.split(".")[0] in FORBIDDEN} == set()
