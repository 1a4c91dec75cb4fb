"""Whatever is added, replaced, deleted and reopened in any order: searches equal brute force over a dict."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpuctl_serving.index.core import Core
from gpuctl_serving.kit.errors import ServiceError
from tests.index import direct

# Few ids, few values: collisions, ties and re-used places are what breaks an index.
IDS = st.sampled_from([f"{letter}{number}" for letter in "ab/#é" for number in range(4)])
NAMESPACES = st.sampled_from(["default", "two"])
VECTORS = st.tuples(*[st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0])] * 3).filter(any)
METADATA = st.fixed_dictionaries(
    {}, optional={"kind": st.sampled_from(["x", "y", 1, True, None]), "n": st.integers(0, 2)}
)
FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"kind": st.sampled_from(["x", 1, True, None, ["x", "y"], []])}),
    st.fixed_dictionaries({"n": st.integers(0, 2), "kind": st.sampled_from(["x", "y"])}),
)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def matches(metadata: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    return all(
        key in metadata
        and any(same(metadata[key], one) for one in (value if isinstance(value, list) else [value]))
        for key, value in (wanted or {}).items()
    )


class IndexAgainstDict(RuleBasedStateMachine):
    """The same steps on the index and on a dict."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gpuctl-index-"))
        self.core: Core = direct.open_core(self.directory)
        self.model: dict[tuple[str, str], tuple[tuple[float, ...], dict[str, Any]]] = {}

    def teardown(self) -> None:
        if hasattr(self, "core"):
            direct.close(self.core)
            shutil.rmtree(self.directory)

    @rule(
        namespace=NAMESPACES,
        items=st.dictionaries(IDS, st.tuples(VECTORS, METADATA), min_size=1, max_size=5),
        upsert=st.booleans(),
    )
    def add(self, namespace: str, items: dict[str, Any], upsert: bool) -> None:
        new = [direct.item(name, vector, metadata) for name, (vector, metadata) in items.items()]
        taken = [name for name in items if (namespace, name) in self.model]
        if taken and not upsert:
            with pytest.raises(ServiceError) as refused:
                direct.add(self.core, new, namespace=namespace, upsert=False)
            assert refused.value.status == 409
            return
        counts = direct.add(self.core, new, namespace=namespace, upsert=upsert)
        assert counts == (len(items) - len(taken), len(taken))
        self.model |= {(namespace, name): value for name, value in items.items()}

    @rule(namespace=NAMESPACES, ids=st.lists(IDS, min_size=1, max_size=4))
    def delete(self, namespace: str, ids: list[str]) -> None:
        there = {name for name in ids if self.model.pop((namespace, name), None) is not None}
        assert direct.delete(self.core, ids, namespace=namespace) == len(there)

    @rule()
    def reopen(self) -> None:
        direct.close(self.core)
        self.core = direct.open_core(self.directory)

    @rule(namespace=NAMESPACES, query=VECTORS, k=st.integers(1, 8), wanted=FILTERS)
    def search(self, namespace: str, query: tuple[float, ...], k: int, wanted: dict[str, Any] | None) -> None:
        wide = direct.unit_vector(query).astype(np.float64)
        expected = sorted(
            (-round(float((direct.unit_vector(vector).astype(np.float64) * wide).sum()), 6) + 0.0, name)
            for (space, name), (vector, metadata) in self.model.items()
            if space == namespace and matches(metadata, wanted)
        )[:k]
        found = direct.search(self.core, query, k, wanted, namespace)
        assert [name for name, _ in found] == [name for _, name in expected]
        assert [score for _, score in found] == pytest.approx([-score for score, _ in expected], abs=1e-6)

    @invariant()
    def memory_equals_the_database(self) -> None:
        if hasattr(self, "core") and self.core.live.catalog is not None:
            assert len(self.core.live.catalog) == len(self.model)


IndexAgainstDict.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, database=None
)
TestIndexAgainstDict = IndexAgainstDict.TestCase
