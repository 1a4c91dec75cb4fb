"""Fixtures of the long tests: those of the ordinary ones, and a place for figures."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import golden, minilm, serve, tiny, tiny_store

__all__ = ["figures", "golden", "minilm", "serve", "tiny", "tiny_store"]


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], None]:
    """Keeps what a test measured: printed at the end of the run, and written to docs when asked."""
    given = os.environ.get("GPUCTL_TEST_FIGURES")
    folder = Path(given) if given else tmp_path_factory.mktemp("figures")

    def keep(name: str, value: Any) -> None:
        (folder / f"{name}.json").write_text(json.dumps(value))

    return keep
