"""A service in its container, for tests: loads as `TEST_LOAD` says, answers as late as asked."""

import asyncio
import os
import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gpuctl_serving.container.behind_proxy import serve
from gpuctl_serving.kit.app import json_response
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.service import Traffic
from gpuctl_serving.kit.settings import Settings
from tests.support.echo import Echo


class Contained(Echo):
    """Remembers every change of its traffic; `/items/<n>` takes n milliseconds."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__()
        self.settings = Settings.load(env)[0]
        self._heard: list[Traffic] = []

    def load_parts(self) -> None:
        how = os.environ.get("TEST_LOAD", "")
        if how == "hang":
            time.sleep(3600)
        if how == "fail":
            raise LoadFailed("the weights are missing")

    async def item(self, request: Request) -> Response:
        await asyncio.sleep(int(request.path_params["id"]) / 1000)
        return json_response({"heard": self._heard})

    async def on_traffic(self, traffic: Traffic) -> None:
        """Hook of the runner."""
        self._heard.append(traffic)


if __name__ == "__main__":
    serve("echo", Contained, os.environ)
