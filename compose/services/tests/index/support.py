"""An index in this process, asked over ASGI as its public and its private socket would be."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from gpuctl_serving.index.service import IndexService, create_service
from gpuctl_serving.kit.service import Traffic

BASE = "/api/v1/vector-store"


class PrivateSocket:
    """Marks requests as the private socket's server does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["gpuctl.private"] = True
        await self._app(scope, receive, send)


class Index:
    """One loaded index and its two sides."""

    def __init__(self, service: IndexService, public: TestClient, private: TestClient) -> None:
        self.service, self.public, self.private = service, public, private

    def post(self, route: str, body: Any) -> Any:
        """The answer's body; fails the test unless it is a 200."""
        answer = self.public.post(f"{BASE}/{route}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, route: str, body: Any) -> tuple[int, str]:
        """Status and message of an answer that is an error."""
        answer = self.public.post(f"{BASE}/{route}", json=body)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["message"]

    def add(self, *items: dict[str, Any], upsert: bool = False, namespace: str = "default") -> Any:
        """Adds items."""
        return self.post("add", {"items": list(items), "upsert": upsert, "namespace": namespace})

    def found(self, vector: list[float], k: int = 10, **more: Any) -> list[Any]:
        """Ids of one search, best first."""
        answer = self.post("search", {"vector": vector, "k": k, **more})
        return [hit["id"] for hit in answer["results"][0]]

    def stats(self) -> Any:
        """The statistics."""
        return self.public.get(f"{BASE}/stats").json()

    def control(self, route: str, body: Any) -> tuple[int, Any]:
        """Status and body of a private POST."""
        answer = self.private.post(f"/private/{route}", json=body)
        return answer.status_code, answer.json()


@contextmanager
def index(directory: Path, traffic: Traffic = "open", **settings: Any) -> Iterator[Index]:
    """A loaded index over a directory; closed in the end."""
    env = {"GPUCTL_INDEX_DIR": str(directory)}
    env |= {
        name if name.isupper() else f"GPUCTL_{name.upper()}": str(value) for name, value in settings.items()
    }
    service = create_service(env)
    service.instance.traffic = traffic
    service.load()
    with TestClient(service.app) as public, TestClient(PrivateSocket(service.app)) as private:
        try:
            yield Index(service, public, private)
        finally:
            assert public.portal is not None
            public.portal.call(service.close)


def axis(at: int, size: int = 4) -> list[float]:
    """A unit vector along one axis."""
    return [1.0 if place == at else 0.0 for place in range(size)]


def in_base64(vector: list[float] | NDArray[np.float32]) -> str:
    """Little-endian float32 in base64."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
