"""Services that real clients talk to: started once, on this machine alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests_clients.offline import stay_on_this_machine, strays

stay_on_this_machine()

from tests_clients.services import Service, minilm, running, tiny  # noqa: E402 - after the clients are quiet

KEY = "the-right-key"


@pytest.fixture(autouse=True)
def nobody_leaves_this_machine() -> Iterator[None]:
    """A client that phones home fails the test during which it does."""
    strays.clear()
    yield
    assert strays == []


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs, tiny models, the index."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def tiny_embedder(scratch: Path) -> Path:
    """Directory of a model that loads in no time."""
    return tiny("tiny-xlmr-embedder", scratch / "models")


@pytest.fixture(scope="session")
def embedder(scratch: Path) -> Iterator[Service]:
    """The default embedder: the real MiniLM, no key."""
    with running("embedder", scratch / "embedder.log", model_dir=minilm()) as service:
        yield service


@pytest.fixture(scope="session")
def reranker(scratch: Path) -> Iterator[Service]:
    """The default reranker: MiniLM as a bi-encoder."""
    with running("reranker", scratch / "reranker.log", model_dir=minilm()) as service:
        yield service


@pytest.fixture(scope="session")
def cross_encoder(scratch: Path) -> Iterator[Service]:
    """A cross-encoder with random weights: exact, but meaningless for relevance."""
    model = tiny("tiny-bert-cross-encoder", scratch / "models")
    with running("reranker", scratch / "cross-encoder.log", model_dir=model) as service:
        yield service


@pytest.fixture(scope="session")
def keys(scratch: Path) -> Path:
    """A key file."""
    file = scratch / "keys"
    file.write_text(f"another-key\n{KEY}\n")
    return file


@pytest.fixture(scope="session")
def guarded_embedder(scratch: Path, keys: Path, tiny_embedder: Path) -> Iterator[Service]:
    """Asks for a key."""
    log = scratch / "guarded-embedder.log"
    with running("embedder", log, model_dir=tiny_embedder, api_keys_file=keys) as service:
        yield service


@pytest.fixture(scope="session")
def guarded_reranker(scratch: Path, keys: Path) -> Iterator[Service]:
    """Asks for a key."""
    model = tiny("tiny-xlmr-cross-encoder", scratch / "models")
    with running(
        "reranker", scratch / "guarded-reranker.log", model_dir=model, api_keys_file=keys
    ) as service:
        yield service


@pytest.fixture(scope="session")
def limited_embedder(scratch: Path, tiny_embedder: Path) -> Iterator[Service]:
    """One request a second, after a first one."""
    log = scratch / "limited-embedder.log"
    with running("embedder", log, model_dir=tiny_embedder, rate_limit="1/s") as service:
        yield service


@pytest.fixture(scope="session")
def limited_reranker(scratch: Path) -> Iterator[Service]:
    """One request a second, after a first one."""
    model = tiny("tiny-xlmr-cross-encoder", scratch / "more-models")
    with running("reranker", scratch / "limited-reranker.log", model_dir=model, rate_limit="1/s") as service:
        yield service


@pytest.fixture(scope="session")
def index(scratch: Path, embedder: Service) -> Iterator[Service]:
    """An index that asks the embedder for vectors."""
    with running(
        "index",
        scratch / "index.log",
        index_dir=scratch / "index",
        index_dimension="384",
        embedder_url=embedder.url,
    ) as service:
        yield service
