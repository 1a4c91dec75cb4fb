"""Routes that every service has, and those that every service with a model has."""

from typing import Any, Literal

import msgspec

from gpuctl_serving.engines.model_routes import TokenizeBody
from gpuctl_serving.models.tokenizer import Piece
from gpuctl_serving.openapi.operation import ERRORS, Operation


class Health(msgspec.Struct):
    """Cached facts; a probe never waits behind a batch."""

    status: Literal["loading", "healthy", "degraded", "failed"]
    device: Literal["cuda", "mps", "cpu"] | None
    model: str | None
    service: str
    #: Why it is not healthy.
    reason: str | None
    device_reason: str | None


class ModelHealth(Health):
    """Of a service with a model: which state its engines are in."""

    state: Literal["loading", "ready", "degraded", "recovering", "failed"]
    #: Whether something else than what was asked for answers.
    fallback: bool


class Ready(msgspec.Struct):
    """Whether it would answer now."""

    status: Literal["ready", "not-ready"]
    reason: str | None


class TrafficGate(msgspec.Struct):
    """Whether a proxy should send requests here."""

    status: Literal["open", "paused", "closed", "not-ready"]
    reason: str | None


class Alive(msgspec.Struct):
    """The process answers."""

    status: Literal["alive"]


class Model(msgspec.Struct):
    """OpenAI's entry of a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(msgspec.Struct):
    """OpenAI's list of models: the one that is served."""

    object: Literal["list"]
    data: list[Model]


class Usage(msgspec.Struct):
    """Tokens that the model worked on, after truncation."""

    prompt_tokens: int
    total_tokens: int


class ModelInfo(msgspec.Struct):
    """TEI's `/info` and more."""

    service: str
    version: str
    state: str
    status: str
    model_id: str | None
    model_sha: str | None
    model_dtype: str | None
    served_model_name: str | None
    model_type: dict[str, Any] | None
    max_input_length: int
    max_batch_tokens: int
    max_queue_tokens: int
    max_client_batch_size: int
    max_concurrent_requests: int
    max_batch_requests: int | None
    sha: str | None
    docker_label: str | None
    auto_truncate: bool
    tokenization_workers: int
    device: str | None
    device_reason: str | None
    reason: str | None
    fallback: Any
    engines: list[dict[str, Any]]
    engine: str | None
    providers: list[str]
    threads: int
    revision: str | None
    artifact_sha256: str | None
    dimension: int | None
    generation: str | None
    licence: str | None
    scoring: Literal["cross-encoder", "bi-encoder"] | None


def probes(health: type[Health]) -> list[Operation]:
    """What is answered in every state."""
    return [
        Operation("GET", "/health", "Health, device and model.", None, health, (), keyed=False, also=(503,)),
        *_PROBES,
    ]


_PROBES = [
    Operation("GET", "/health/live", "Whether the process is alive.", None, Alive, (), keyed=False),
    Operation(
        "GET", "/health/ready", "Whether it would answer now.", None, Ready, (), keyed=False, also=(503,)
    ),
    Operation(
        "GET",
        "/health/traffic",
        "Whether a proxy should send requests here.",
        None,
        TrafficGate,
        (),
        keyed=False,
        also=(503,),
    ),
    # With GPUCTL_METRICS=key; else they are open.
    Operation("GET", "/metrics", "Metrics in Prometheus' text format.", None, None, (401,)),
    Operation("GET", "/metrics/gpu", "Metrics of the GPUs.", None, None, (401,)),
]

MODEL = [
    *probes(ModelHealth),
    Operation("GET", "/info", "What is served, by what.", None, ModelInfo, (401,)),
    Operation(
        "POST",
        "/tokenize",
        "The tokens of each text and where they are in it (TEI).",
        TokenizeBody,
        list[list[Piece]],
        example={"inputs": "a text"},
    ),
    Operation("GET", "/v1/models", "The model that is served (OpenAI).", None, Models, ERRORS),
    Operation(
        "GET", "/v1/models/{model:path}", "The same by its name (OpenAI).", None, Model, (401, 404, 429, 503)
    ),
]
