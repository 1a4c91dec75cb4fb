"""OpenAPI 3.1 from operations: msgspec says how their types look, the rest is said here."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

import gpuctl_serving
from gpuctl_serving.openapi.errors import MEANINGS, Error
from gpuctl_serving.openapi.operation import Operation, Schema

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_HEADERS: Mapping[str, str] = {
    "x-request-id": "The request's id: the one that was sent, or a new one.",
    "server-timing": "Milliseconds of each stage.",
    "x-gpuctl-device": "The device that computed the answer.",
}


def document(title: str, description: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of one service."""
    types = _types(operations)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(_identity, types), schemas, strict=True))
    for operation in operations:
        _narrow(operation, components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": gpuctl_serving.__version__, "description": description},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
            },
            "responses": _errors(operations, by_type[_identity(Error)]),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _errors(operations: Sequence[Operation], error: Schema) -> dict[str, Any]:
    used = sorted({status for operation in operations for status in operation.errors})
    return {str(status): {"description": MEANINGS[status], "content": _json(error)} for status in used}


def _types(operations: Sequence[Operation]) -> list[Any]:
    found = [Error]
    for operation in operations:
        found += [
            each for each in (operation.body, operation.answer) if each is not None and each not in found
        ]
    return found


def _identity(each: Any) -> str:
    return repr(each)


def _narrow(operation: Operation, components: dict[str, Schema]) -> None:
    """Says about a body what its type does not: limits that handlers check, and what they refuse."""
    for name, schema in operation.narrow.items():
        properties = components[operation.body.__name__]["properties"]
        if name not in properties:
            raise KeyError(f"{operation.body.__name__} has no field {name}")
        properties[name] = schema


def _operation(operation: Operation, by_type: Mapping[str, Schema]) -> dict[str, Any]:
    responses = {"200": _success(operation, by_type)}
    for status in operation.also:
        responses[str(status)] = _success(operation, by_type) | {"description": MEANINGS[status]}
    for status in operation.errors:
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _name(operation),
        "responses": dict(sorted(responses.items())),
    }
    if parameters := [*_path_parameters(operation.path), *_query_parameters(operation)]:
        found["parameters"] = parameters
    if operation.body is not None:
        content = _json(by_type[_identity(operation.body)])
        if operation.example is not None:
            content["application/json"]["example"] = operation.example
        found["requestBody"] = {"required": operation.needs_body, "content": content}
    found["security"] = [{"key": []}, {}] if operation.keyed else []
    return found


def _success(operation: Operation, by_type: Mapping[str, Schema]) -> dict[str, Any]:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}
    if operation.answer is None:
        content: dict[str, Any] = {operation.media: {"schema": {"type": "string"}}}
    else:
        content = _json(by_type[_identity(operation.answer)])
    return {"description": operation.summary, "headers": headers, "content": content}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name, _ in _PARAMETER.findall(path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]


def _name(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path.replace(":path", "")) or ["root"]
    return operation.method.lower() + "".join(word[0].upper() + word[1:] for word in words)
