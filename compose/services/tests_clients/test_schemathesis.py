"""schemathesis: whatever the OpenAPI documents allow, and what they do not, gets an answer they describe."""

import json
import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests_clients.services import SERVICES, Service

#: Requests a route and kind of data; a longer run sets more, and then they differ every time.
EXAMPLES = int(os.environ.get("GPUCTL_TEST_EXAMPLES", "0"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: Fixture -> document.
RUNNING = {"embedder": "embedder", "reranker": "reranker", "cross_encoder": "reranker", "index": "index"}


def cases() -> list[tuple[str, str, str, GenerationMode]]:
    """Every operation of every document, with data as described and not as described."""
    found = []
    for fixture, name in RUNNING.items():
        document = json.loads((SERVICES / "openapi" / f"{name}.json").read_text())
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                found.append((fixture, method.upper(), path, GenerationMode.POSITIVE))
                if "requestBody" in operation:
                    found.append((fixture, method.upper(), path, GenerationMode.NEGATIVE))
    return found


@pytest.mark.parametrize(("fixture", "method", "path", "mode"), cases())
def test_no_request_gets_a_5xx_or_an_answer_that_is_not_described(
    request: pytest.FixtureRequest, fixture: str, method: str, path: str, mode: GenerationMode
) -> None:
    service: Service = request.getfixturevalue(fixture)
    schema = schemathesis.openapi.from_path(str(SERVICES / "openapi" / f"{RUNNING[fixture]}.json"))
    schema.config.update(base_url=service.url)
    operation = schema[path][method]
    alike = method == "GET" and "{" not in path

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=1 if alike else EXAMPLES or 12,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    ask()
