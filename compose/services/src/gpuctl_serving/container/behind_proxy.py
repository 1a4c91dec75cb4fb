"""Runs one service in its container: public over TCP, private over a unix socket, traffic by its gate."""

import asyncio
import signal
from collections.abc import Mapping
from typing import NoReturn

from starlette.types import ASGIApp, Receive, Scope, Send

from gpuctl_serving.container.place import VARIABLES, Place, PlaceError, Traffic
from gpuctl_serving.container.traffic_gate import Gate, read_gate, uptime, write_gate
from gpuctl_serving.kit.control import bind_unix
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.instance import DRAIN_SECONDS, FollowsTraffic, load_or_end
from gpuctl_serving.kit.logs import Log
from gpuctl_serving.kit.serve import CreateService, bind_public, main, tend_every_second
from gpuctl_serving.kit.service import HostedService, InstanceFacts
from gpuctl_serving.kit.settings import SettingsError
from gpuctl_serving.kit.traffic import IDLE_GRACE_SECONDS, HttpServer

log = Log(__name__)

#: Made in the image, writable, for a volume.
INDEX_DIRECTORY = "/var/lib/gpuctl/index"
#: The gate is looked at so often.
LOOK_SECONDS = 0.1
#: A proxy that asked within this time is watching, and will notice that we leave.
_WATCHING_SECONDS = 5.0
#: It gets so long to notice before connections are refused: three looks of one that looks every 500 ms.
_NOTICE_SECONDS = 1.5


def serve(service: str, create_service: CreateService, env: Mapping[str, str]) -> NoReturn:
    """Serves in this process until asked to end."""

    def create(_: Mapping[str, str]) -> HostedService:
        try:
            place = Place.read(env)
            place.write_document(service)
        except PlaceError as wrong:
            raise SettingsError([str(wrong)]) from None
        return create_service(service_environment(service, env, place))

    async def run(made: HostedService) -> int:
        return await BehindProxy(made, Place.read(env)).run()

    main(create, run)


def service_environment(service: str, env: Mapping[str, str], place: Place) -> dict[str, str]:
    """What a service reads: inside its own network it listens on every address unless told otherwise."""
    rest = {name: value for name, value in env.items() if name not in VARIABLES}
    # The others would say that they know no such setting.
    own = {"GPUCTL_INDEX_DIR": INDEX_DIRECTORY} if service == "index" else {}
    return {"GPUCTL_HOST": "0.0.0.0", **own, **rest, "GPUCTL_INSTANCE_FILE": str(place.document)}  # noqa: S104


class BehindProxy:
    """Answers on its public port; its gate decides what `/health/traffic` tells the proxy.

    A proxy that was just started takes every place for usable until it has asked, and sends requests to those
    it can connect to. So whoever deploys may have the port closed while the gate is (`lingerMs`): at once for
    what was never open, and after a pause once the proxy had the time to hear of it.

    A gate that is shut until a time is a loan to a successor. The place is back at that time, and also when
    the process is started anew, because then the host, or Docker, was started anew in the middle of it, and
    nobody may be left who would bring it back.
    """

    def __init__(self, service: HostedService, place: Place) -> None:
        self._service, self._place = service, place
        self._ending, self._cut = asyncio.Event(), asyncio.Event()
        self._complaint = ""
        self._asked_at = float("-inf")
        #: Since when the gate is not open.
        self._shut_at = float("-inf")
        #: What the gate said when this process started.
        self._found = self._look()
        service.instance = InstanceFacts(place.instance, place.release, place.slot, "closed")

    async def run(self) -> int:
        """Serves until asked to end; returns the exit status. Raises when a socket cannot be had."""
        service, place = self._service, self._place
        public = HttpServer(
            self._noticing(service.app), bind_public(service.name, service.settings), private=False
        )
        private = HttpServer(service.app, bind_unix(place.private), private=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end)
        tasks = [loop.create_task(tend_every_second(public, private))]
        await private.accept()
        log.info(
            "loading", instance=place.instance, address=":".join(map(str, public.listener.getsockname()[:2]))
        )
        try:
            if place.linger is None:
                await public.accept()
            else:
                _fall_silent(public)
            if await load_or_end(service, self._ending):
                log.info("ready", instance=place.instance)
                tasks.append(loop.create_task(self._follow_gate(public)))
            await self._ending.wait()
            await self._finish(public, private, tasks)
            return 0
        finally:
            for task in tasks:
                task.cancel()
            await public.close()
            await private.close()
            place.private.unlink(missing_ok=True)

    def _asked_to_end(self) -> None:
        (self._cut if self._ending.is_set() else self._ending).set()

    def _noticing(self, app: ASGIApp) -> ASGIApp:
        """The app, which remembers when a proxy last asked about traffic."""

        async def noticing(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/health/traffic":
                self._asked_at = asyncio.get_running_loop().time()
            await app(scope, receive, send)

        return noticing

    async def _follow_gate(self, public: HttpServer) -> None:
        while True:
            wanted = self._wanted()
            if wanted is not None and wanted != self._service.instance.traffic:
                await self._turn(wanted)
            if self._place.linger is not None:
                await self._open_or_shut(public, self._place.linger)
            await asyncio.sleep(LOOK_SECONDS)

    async def _open_or_shut(self, public: HttpServer, linger: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._service.instance.traffic != "open":
            if public.accepting and now - self._shut_at >= linger:
                _fall_silent(public)
            return
        if public.accepting:
            return
        try:
            public.listener = bind_public(self._service.name, self._service.settings)
        except LoadFailed as taken:
            log.warning("port-not-opened", reason=str(taken))
            await asyncio.sleep(1)
            return
        await public.accept()

    def _wanted(self) -> Traffic | None:
        """What the gate says; None when nothing can be learnt from it now, and all stays as it is."""
        now = self._service.instance.traffic
        try:
            gate = read_gate(self._place.gate)
        except (OSError, ValueError) as wrong:
            self._complain(str(wrong))
            return None
        if gate is not None:
            self._complain("")
            return "open" if self._is_lent_no_more(gate) else gate.traffic
        if self._place.deployed:
            return self._place.initial
        # Nobody has set it, or it is gone: from here on the file decides, whatever a later container is told.
        said: Traffic = self._place.initial if now == "closed" else now
        try:
            write_gate(self._place.gate, said)
        except OSError as failure:
            self._complain(f"{self._place.gate} cannot be written: {failure.strerror}")
        return said

    def _look(self) -> Gate | None:
        try:
            return read_gate(self._place.gate)
        except (OSError, ValueError):
            return None

    def _is_lent_no_more(self, gate: Gate) -> bool:
        return gate.until is not None and (gate == self._found or uptime() >= gate.until)

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            log.warning("traffic-gate-unusable", reason=complaint, traffic=self._service.instance.traffic)
        self._complaint = complaint

    async def _turn(self, traffic: Traffic) -> None:
        if traffic == "open":
            await self._tell(traffic)
        self._service.instance.traffic = traffic
        self._shut_at = asyncio.get_running_loop().time()
        log.info("traffic", traffic=traffic)
        if traffic == "paused":
            await self._tell(traffic)

    async def _tell(self, traffic: Traffic) -> None:
        if isinstance(self._service, FollowsTraffic):
            await self._service.on_traffic(traffic)

    async def _finish(
        self, public: HttpServer, private: HttpServer, tasks: list["asyncio.Task[None]"]
    ) -> None:
        """Leaves as a good neighbour; a second signal cuts it short. The gate's file stays as it is."""
        for following in tasks[1:]:
            following.cancel()
        finishing = asyncio.ensure_future(self._leave(public))
        cutting = asyncio.ensure_future(self._cut.wait())
        await asyncio.wait({finishing, cutting}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        cutting.cancel()
        await private.finish(0 if self._cut.is_set() else IDLE_GRACE_SECONDS + 1)
        if self._service.state == "ready":
            await self._service.close()
        log.info("ended", instance=self._place.instance)

    async def _leave(self, public: HttpServer) -> None:
        if self._service.instance.traffic == "open":
            await self._turn("paused")
            if asyncio.get_running_loop().time() - self._asked_at < _WATCHING_SECONDS:
                await asyncio.sleep(_NOTICE_SECONDS)
        if not await public.finish(DRAIN_SECONDS):
            log.warning("requests-cut", inflight=public.inflight)


def _fall_silent(public: HttpServer) -> None:
    """Connections are refused from now on; requests that are being answered are, and idle connections end."""
    public.pause()
    public.listener.close()
