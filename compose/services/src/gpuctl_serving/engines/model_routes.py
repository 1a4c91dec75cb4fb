"""Routes that every service with a model has: TEI's `/tokenize`, OpenAI's `/v1/models`."""

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.engines.model_service import ModelService
from gpuctl_serving.kit.app import Endpoint, json_response
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, invalid
from gpuctl_serving.models import prompts
from gpuctl_serving.models.manifest import Manifest

#: Each token of an answer is some sixty bytes: a body full of text would be an answer of half a gigabyte.
MAX_CHARACTERS = 1_000_000


class TokenizeBody(msgspec.Struct):
    """`POST /tokenize`, as TEI has it."""

    inputs: str | list[str]
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


class ModelRoutes:
    """The handlers; `endpoints` is what a service adds to its own."""

    def __init__(self, service: ModelService) -> None:
        self._service = service
        self._created = int(time.time())
        self.endpoints = [
            Endpoint("POST", "/tokenize", self.tokenize),
            Endpoint("GET", "/v1/models", self.models),
            Endpoint("GET", "/v1/models/{model:path}", self.model),
        ]

    async def tokenize(self, request: Request) -> Response:
        """The tokens of each text, with where they are in it. Nothing is cut off."""
        body = await read_json(request, TokenizeBody)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        self._service.check_items(len(texts), "inputs")
        if (size := sum(map(len, texts))) > MAX_CHARACTERS:
            raise invalid(
                f"`inputs` has {size} characters; at most {MAX_CHARACTERS} are split at once. Send fewer.",
                "inputs",
            )
        served = self._service.served
        prompt = prompt_of(served.loaded, body.prompt_name, "")
        prompted = [prompt + text for text in texts] if prompt else texts
        special = body.add_special_tokens is not False
        return json_response(await asyncio.to_thread(served.tokenizer.pieces, prompted, special=special))

    async def models(self, _: Request) -> Response:
        """The one model that is served."""
        return json_response({"object": "list", "data": [self._entry()]})

    async def model(self, request: Request) -> Response:
        """The same by its name."""
        entry, wanted = self._entry(), request.path_params["model"]
        if wanted != entry["id"]:
            raise ServiceError(
                404, "NotFound", f"This service serves {entry['id']}, not {wanted!r}.", param="model"
            )
        return json_response(entry)

    def _entry(self) -> dict[str, Any]:
        return {"id": self._service.model, "object": "model", "created": self._created, "owned_by": "gpuctl"}


def prompt_of(manifest: Manifest, name: str | None, default: str) -> str:
    """The text a prompt's name stands for; `default` without a name. Raises 422 naming those there are.

    `query` and `passage` are known to every model, so that a caller need not know whether it wants a prompt.
    """
    prompt = prompts.prompt_of(manifest.prompts, default, name)
    if prompt is None:
        known = ", ".join(sorted({*manifest.prompts, "query", "passage"}))
        raise invalid(f"This model has no prompt {name!r}; it has: {known}.", "prompt_name")
    return prompt
