"""What docs/architecture.md promises of settings, headers, routes and metrics is what the services have."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuctl_serving.caches.settings import CachedSettings
from gpuctl_serving.index.settings import IndexSettings
from gpuctl_serving.kit.settings import MIB, PREFIX, Settings
from gpuctl_serving.reranker.settings import RerankSettings
from tests.metrics.exposed import registered

SERVICES = Path(__file__).parents[1]
DOCS = SERVICES.parents[1] / "docs"
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")
SOURCE = "\n".join(file.read_text(encoding="utf-8") for file in sorted((SERVICES / "src").rglob("*.py")))
HEADER = re.compile(r"x-(?:gpuctl|compute|request|total|tokenization|queue|inference)-[a-z-]*[a-z]")


def variables(settings: type[Settings]) -> set[str]:
    """The variables that a service reads."""
    return {PREFIX + field.name.upper() for field in dataclasses.fields(settings)}


def documented() -> Iterator[tuple[str, str, str]]:
    """(variable, what follows its name in the first column, services) of the table of settings."""
    section = ARCHITECTURE.split("## Running a service", 1)[1].split("\n### ", 1)[0]
    for line in section.splitlines():
        cells = line.split(" | ")
        if not line.startswith("| `GPUCTL_") or len(cells) < 3:
            continue
        parts = re.split(r"`(GPUCTL_[A-Z_]+)`", cells[0])
        for name, after in zip(parts[1::2], parts[2::2], strict=True):
            yield name, after, cells[1]


def test_every_setting_is_documented_once_and_nothing_else_is() -> None:
    names = [name for name, _, _ in documented()]
    assert sorted(names) == sorted(variables(RerankSettings) | variables(IndexSettings))


def test_each_setting_names_the_services_that_read_it() -> None:
    readers = {
        "all": variables(Settings),
        "embedder, reranker": variables(CachedSettings) - variables(Settings),
        "reranker": variables(RerankSettings) - variables(CachedSettings),
        "index": variables(IndexSettings) - variables(Settings),
    }
    for name, _, services in documented():
        assert name in readers[services], f"{name} is not read by {services} (alone)"


def test_documented_numbers_are_the_defaults() -> None:
    defaults = {
        PREFIX + field.name.upper(): field.default
        for settings in (Settings, IndexSettings, RerankSettings)
        for field in dataclasses.fields(settings)
    }
    told = 0
    for name, after, _ in documented():
        found = re.match(r" \((\d[\d.]*)( MiB)?", after)
        if found:
            told += 1
            assert defaults[name] == float(found[1]) * (MIB if found[2] else 1), name
    assert told > 10


def test_every_header_is_documented_and_every_documented_one_is_sent() -> None:
    sent = {match[0] for match in HEADER.finditer(SOURCE)}
    assert set(HEADER.findall(ARCHITECTURE)) == sent


@pytest.mark.parametrize("service", ["embedder", "reranker", "index"])
def test_every_public_route_is_documented(service: str) -> None:
    document = json.loads((SERVICES / "openapi" / f"{service}.json").read_text(encoding="utf-8"))
    section = ARCHITECTURE.split("## Public routes", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`(?:GET |POST )?(/[^` ]*)`", section))
    paths = {path.removeprefix("/api/v1/vector-store") for path in document["paths"]}
    assert paths <= named


def test_metrics_that_the_pages_name_exist() -> None:
    names = {name for families in registered().values() for name in families}
    for page in DOCS.rglob("*.md"):
        for name in re.findall(r"`(gpuctl_[a-z_]+)[`{]", page.read_text(encoding="utf-8")):
            if not name.startswith("gpuctl_serving"):
                assert name in names, f"{page.name} names {name}"
