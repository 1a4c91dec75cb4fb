"""The private routes over the real sockets: there on the unix socket, and nowhere else."""

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from gpuctl_serving.kit.control import bind_unix
from gpuctl_serving.kit.rate_limit import parse_limits
from gpuctl_serving.kit.traffic import HttpServer
from tests.support.echo import Echo

PRIVATE = ["/debug/stacks", "/private/status"]


async def statuses(client: httpx.AsyncClient, path: str, **headers: str) -> list[int]:
    """Of the path, and of spellings that must not be a way round."""
    spelled = [path, path.replace("/", "/%2e/", 1), f"/{path}", f"{path}/", f"/x/..{path}"]
    return [(await client.get(each, headers=headers)).status_code for each in spelled]


@pytest.mark.parametrize("path", PRIVATE)
def test_a_private_route_answers_on_the_unix_socket_alone(tmp_path: Path, path: str) -> None:
    async def run() -> None:
        keys = tmp_path / "keys"
        keys.write_text("key\n")
        service = Echo(api_keys_file=keys, rate_limit=parse_limits("1/h"))
        service.load()
        public = HttpServer(service.app, socket.create_server(("127.0.0.1", 0)), private=False)
        private = HttpServer(service.app, bind_unix(tmp_path / "http"), private=True)
        await public.accept()
        await private.accept()
        port = public.listener.getsockname()[1]
        inside = httpx.AsyncHTTPTransport(uds=str(tmp_path / "http"))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as outside_client,
            httpx.AsyncClient(base_url="http://inside", transport=inside) as inside_client,
        ):
            for headers in ({}, {"authorization": "Bearer key"}, {"x-gpuctl-private": "true"}):
                assert 200 not in await statuses(outside_client, path, **headers)
            # Neither a key nor a limit stands between the keeper and its instance.
            for _ in range(3):
                assert (await inside_client.get(path)).status_code == 200
        await public.close()
        await private.close()

    asyncio.run(run())
