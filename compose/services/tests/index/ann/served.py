"""An index service out of a copy of the package, as a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.index.instances import Instance, public_socket, wait_until
from tests.index.support import BASE


class Served(httpx.Client):
    """A client of its public socket; `proof` is asked of its private one."""

    def __init__(self, instance: Instance, port: int) -> None:
        super().__init__(base_url=f"http://127.0.0.1:{port}", timeout=20)
        self._instance = instance

    def proof(self) -> dict[str, Any]:
        """What a deploy would be told now."""
        status, body = self._instance.private("POST", "proof", {})
        assert status == 200, body
        proven: dict[str, Any] = body
        return proven


@contextmanager
def served(package: Path, directory: Path, **more: str) -> Iterator[Served]:
    """A client of it, once it answers; `more` is its environment."""
    settings = {"GPUCTL_INDEX_REPLICA_FROM": "100", "GPUCTL_DEVICE": "cuda", **more}
    named = {name.removeprefix("GPUCTL_"): value for name, value in settings.items()}
    with public_socket() as listener:
        instance = Instance(directory, "a", listener, code=package, **named)
        try:
            instance.wait_ready()
            assert instance.control("accept")["ok"]
            with Served(instance, listener.getsockname()[1]) as http:
                wait_until(lambda: "device" in http.get(f"{BASE}/stats").json(), "the service answers")
                yield http
        finally:
            instance.kill()
