"""Steady writes and searches from threads, each answer kept."""

import threading
import time
from types import TracebackType

import httpx

from tests.index.instances import wait_until

BASE = "/api/v1/vector-store"


class Load:
    """Clients of an index's public port between `with` and its end."""

    def __init__(
        self, port: int, *, writers: int = 2, searchers: int = 1, texts: bool = False, upsert: bool = False
    ) -> None:
        self._port, self._texts, self._upsert = port, texts, upsert
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(writers)]
        self._threads += [threading.Thread(target=self._search) for _ in range(searchers)]
        self.acknowledged: list[str] = []
        self.failed: list[str] = []
        self.searched = 0
        self.slowest = 0.0

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Returns once so many writes were acknowledged."""
        wait_until(lambda: len(self.acknowledged) >= count, f"{count} writes are acknowledged")

    def _write(self, writer: int) -> None:
        number = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=20) as client:
            while not self._stop.is_set():
                name, number = f"w{writer}n{number}", number + 1
                item: dict[str, object] = {"id": name, "text": name}
                if not self._texts:
                    item["vector"] = [1.0, number, writer]
                body = {"items": [item], "upsert": self._upsert}
                if self._exchange(client, "add", body, name) is not None:
                    self.acknowledged.append(name)
                self._stop.wait(0.002)

    def _search(self) -> None:
        query = {"text": "w0n3"} if self._texts else {"vector": [1, 2, 3]}
        with httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=20) as client:
            while not self._stop.is_set():
                self.searched += self._exchange(client, "search", {**query, "k": 3}, "search") is not None
                self._stop.wait(0.002)

    def _exchange(self, client: httpx.Client, route: str, body: object, name: str) -> object:
        began = time.monotonic()
        try:
            answer = client.post(f"{BASE}/{route}", json=body)
        except httpx.HTTPError as failure:
            self.failed.append(f"{name}: {type(failure).__name__} {failure}")
            return None
        self.slowest = max(self.slowest, time.monotonic() - began)
        if answer.status_code != 200:
            self.failed.append(f"{name}: {answer.status_code} {answer.text[:300]}")
            return None
        return answer.json()
