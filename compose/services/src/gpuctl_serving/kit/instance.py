"""An instance: a service under the keeper, which answers public requests only while it is told to."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gpuctl_serving.kit.control import Answer, Json, LineServer, Refused, bind_unix
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.kit.process import own_identity
from gpuctl_serving.kit.service import HostedService, InstanceFacts, Traffic
from gpuctl_serving.kit.traffic import IDLE_GRACE_SECONDS, HttpServer

log = Log(__name__)

#: How long requests being answered may take when the process is asked to end.
DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class LaunchedAs:
    """What an instance needs of its launch document (docs/architecture.md)."""

    id: str
    service: str
    release: str
    slot: str
    private: Path
    control: Path

    @classmethod
    def read(cls, file: Path) -> "LaunchedAs":
        """Raises OSError, ValueError or KeyError when the document is not one."""
        document: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            id=str(document["id"]),
            service=str(document["service"]),
            release=str(document["release"]),
            slot=str(document["slot"]),
            private=Path(document["private"]),
            control=Path(document["control"]),
        )


@runtime_checkable
class FollowsTraffic(Protocol):
    """A service that does something when its public traffic is opened or paused."""

    async def on_traffic(self, traffic: Traffic) -> None:
        """Called before the first public request, and after the last connection was taken."""


class Instance:
    """Runs one service: control socket, load, private HTTP; public HTTP between accept and pause."""

    def __init__(self, service: HostedService, launched: LaunchedAs, listener: socket.socket) -> None:
        self._service = service
        self._launched = launched
        self._listener = listener
        self._identity = own_identity()
        self._public = HttpServer(service.app, listener, private=False)
        self._private: HttpServer | None = None
        self._ending = asyncio.Event()
        self._switching = asyncio.Lock()
        service.instance = InstanceFacts(launched.id, launched.release, launched.slot, "closed")

    async def run(self) -> int:
        """Serves until asked to end; returns the exit status. Raises when a socket cannot be had."""
        control = LineServer(bind_unix(self._launched.control), self._handle)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        ticking = loop.create_task(self._tick())
        try:
            # A candidate that hangs or dies while loading leaves at least this to be shown.
            log.info("loading", instance=self._launched.id)
            loaded = await load_or_end(self._service, self._ending)
            if loaded:
                self._private = HttpServer(self._service.app, bind_unix(self._launched.private), private=True)
                await self._private.accept()
                log.info("ready", instance=self._launched.id)
            await self._ending.wait()
            await self._finish()
            return 0
        finally:
            ticking.cancel()
            await control.close()
            self._launched.control.unlink(missing_ok=True)
            if self._private is not None:
                await self._private.close()
                self._launched.private.unlink(missing_ok=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._public.tend()
            if self._private is not None:
                self._private.tend()

    async def _finish(self) -> None:
        if self._service.instance.traffic == "open":
            self._set_traffic("paused")
        if not await self._public.finish(DRAIN_SECONDS):
            log.warning("requests-cut", inflight=self._public.inflight)
        if self._private is not None:
            await self._private.finish(IDLE_GRACE_SECONDS + 1)
        if self._service.state == "ready":
            await self._service.close()
        log.info("ended", instance=self._launched.id)

    async def _handle(self, request: Json) -> Answer:
        match request["op"]:
            case "hello":
                return Answer(self._hello())
            case "accept":
                await self._accept()
                return Answer({"ok": True})
            case "pause":
                return Answer(await self._pause(request.get("drainMs", DRAIN_SECONDS * 1000)))
            case "listener":
                return Answer({"ok": True}, self._listener.fileno())
            case "exit":
                self._ending.set()
                return Answer({"ok": True})
            case other:
                raise Refused(
                    "unknown-op",
                    f"an instance answers hello, accept, pause, listener and exit, not {other!r}",
                )

    def _hello(self) -> Json:
        launched, service = self._launched, self._service
        return {
            "ok": True,
            "pid": self._identity.pid,
            "startTime": self._identity.start_time,
            "id": launched.id,
            "service": launched.service,
            "release": launched.release,
            "slot": launched.slot,
            "state": service.state if self._private is not None or service.state == "failed" else "loading",
            "traffic": service.instance.traffic,
            "inflight": self._public.inflight,
        }

    async def _accept(self) -> None:
        async with self._switching:
            if self._private is None or self._service.state != "ready":
                raise Refused(
                    "not-ready",
                    f"{self._launched.id} is {self._hello()['state']}: it accepts once it is ready",
                )
            if self._ending.is_set():
                raise Refused("ending", f"{self._launched.id} was asked to end")
            if self._public.accepting:
                return
            await self._tell("open")
            await self._public.accept()
            self._set_traffic("open")

    async def _pause(self, drain_ms: object) -> Json:
        if (
            isinstance(drain_ms, bool)
            or not isinstance(drain_ms, int | float)
            or not 0 <= drain_ms <= 3_600_000
        ):
            raise Refused("bad-request", '"drainMs" is a number of milliseconds from 0 to 3600000')
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._switching:
            if self._public.accepting:
                self._public.pause()
                self._set_traffic("paused")
                await self._tell("paused")
        # Outside the lock: an `accept` that comes now undoes the pause at once.
        drained = await self._public.drain(drain_ms / 1000)
        return {"ok": True, "drained": drained, "waitedMs": round((loop.time() - began) * 1000)}

    async def _tell(self, traffic: Traffic) -> None:
        if isinstance(self._service, FollowsTraffic):
            await self._service.on_traffic(traffic)

    def _set_traffic(self, traffic: Traffic) -> None:
        self._service.instance.traffic = traffic
        log.info("traffic", traffic=traffic)


async def load_or_end(service: HostedService, ending: asyncio.Event) -> bool:
    """Loads in a thread. False when asked to end before; raises what `load` raised.

    The thread is a daemon: a load that hangs in native code must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(failure: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if failure is None else done.set_exception(failure)

    def load() -> None:
        failure: BaseException | None = None
        try:
            service.load()
        except BaseException as raised:
            failure = raised
        # The loop is gone when the process was asked to end in the meantime.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, failure)

    threading.Thread(target=load, name="load", daemon=True).start()
    end: asyncio.Future[Any] = loop.create_task(ending.wait())
    await asyncio.wait([done, end], return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if not done.done():
        return False
    done.result()
    return True


def inherited_listener(number: int) -> socket.socket:
    """The public listening socket that the keeper passed on. Raises OSError when the number is no socket."""
    listener = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    listener.setblocking(False)
    return listener
