"""docs/guides/metrics.md lists what services register: every metric, no other, with its own words."""

import re
from pathlib import Path

from tests.metrics.exposed import gpu_rows, registered, rows

PAGE = Path(__file__).parents[4] / "docs/guides/metrics.md"


def table(name: str) -> list[str]:
    """The rows below the heading that names it, with single spaces."""
    section = PAGE.read_text(encoding="utf-8").split(f"## `GET {name}`\n", 1)[1].split("\n## ", 1)[0]
    return [re.sub(r" +", " ", line) for line in section.splitlines() if line.startswith("| `")]


def squeezed(line: str) -> str:
    return re.sub(r" +", " ", line)


def test_the_page_lists_every_metric_with_type_labels_services_and_meaning() -> None:
    services = registered()
    assert table("/metrics") == [squeezed(row) for row in rows(services)]
    for families in services.values():
        assert all(family.help.endswith(".") for family in families.values())


def test_the_page_lists_every_metric_of_gpus() -> None:
    assert table("/metrics/gpu") == [*gpu_rows()]
