"""A prepared index, and places to kill copies of it in."""

from collections.abc import Iterator

import pytest
from tests.index.instances import wait_until

from tests_long.durability.acknowledged import COUNTS, LISTS, PLAIN, Model, item
from tests_long.durability.bench import Benches
from tests_long.durability.cases import Prepared, rotate
from tests_long.durability.tracing import program


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """Places to kill in. Fails at once when strace is missing."""
    program()
    made = Benches(tmp_path_factory.mktemp("benches"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def prepared(benches: Benches, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two namespaces, one of them IVFFlat, with two snapshots and a log of several segments."""
    directory, model = tmp_path_factory.mktemp("base") / "index", Model()
    with benches.one() as bench, bench.service(directory) as service:
        for ns, count in COUNTS.items():
            names = [f"n{number}" for number in range(count)]
            service.post("add", {"namespace": ns, "items": [item(name, 1) for name in names]})
            for name in names:
                model.begins((ns, name), 1)
                model.acknowledged()
        wait_until(lambda: service.stats()["indexes"][LISTS]["type"] == "IVFFlat", "the type is IVFFlat")
        for _ in range(2):
            rotate(service)
            service.post("compact")
            service.post("snapshot")
        rotate(service)
        service.post("compact")
        model.compare(service.http)
        assert service.stats()["indexes"][PLAIN]["type"] == "Flat"
    assert len(list((directory / "log").iterdir())) > 1
    return Prepared(directory, model)
