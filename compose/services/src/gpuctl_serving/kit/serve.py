"""What `python -m gpuctl_serving.<service>` does: an instance under the keeper, elsewhere a plain server."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn

import uvloop

from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.instance import DRAIN_SECONDS, Instance, LaunchedAs, inherited_listener, load_or_end
from gpuctl_serving.kit.logs import Log, configure_logging
from gpuctl_serving.kit.service import HostedService
from gpuctl_serving.kit.settings import Settings, SettingsError
from gpuctl_serving.kit.traffic import BACKLOG, HttpServer

log = Log(__name__)

#: Ports of plain servers that are not told one.
DEFAULT_PORTS: Mapping[str, int] = {"embedder": 8001, "reranker": 8002, "index": 8003}
_DESCRIPTORS = 65_536


CreateService = Callable[[Mapping[str, str]], HostedService]
Run = Callable[[HostedService], Coroutine[Any, Any, int]]


def main(create_service: CreateService, run: Run | None = None) -> NoReturn:
    """Runs the service made from the environment until asked to end; exits with 1 when it cannot serve.

    `run` serves it and returns the exit status; by default under the keeper or as a plain server.
    """
    configure_logging("starting", "info")
    _allow_many_connections()
    status, reason = 1, ""
    try:
        service = create_service(os.environ)
        configure_logging(service.name, service.settings.log_level)
        status = uvloop.run((run or _run)(service))
    except (SettingsError, LoadFailed) as failure:
        reason = str(failure)
    except Exception as failure:
        log.error("load-failed", reason=f"{type(failure).__name__}: {failure}")
    if reason:
        # Said outside the handler: the trace of an expected failure would hide its sentence.
        log.error("load-failed", reason=reason)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that hang in native code (a load that never ends) and their exit handlers must not keep us.
    os._exit(status)


def _allow_many_connections() -> None:
    # Every connection is a descriptor, and the usual soft limit is 1024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(service: HostedService) -> int:
    settings = service.settings
    if settings.instance_file is None:
        return await serve_plain(service)
    if settings.listen_fd is None:
        raise LoadFailed(
            "GPUCTL_INSTANCE_FILE is set without GPUCTL_LISTEN_FD: only the keeper sets the two, together. "
            f"A container runs `gpuctl-service {service.name}`"
        )
    launched = LaunchedAs.read(settings.instance_file)
    return await Instance(service, launched, inherited_listener(settings.listen_fd)).run()


async def serve_plain(service: HostedService) -> int:
    """Serves GPUCTL_HOST and GPUCTL_PORT from the start, loading or not. SIGTERM drains, a second cuts."""
    public = HttpServer(service.app, bind_public(service.name, service.settings), private=False)
    loop = asyncio.get_running_loop()
    ending, cut = asyncio.Event(), asyncio.Event()

    def asked_to_end() -> None:
        (cut if ending.is_set() else ending).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end)
    ticking = loop.create_task(tend_every_second(public))
    await public.accept()
    host, port = public.listener.getsockname()[:2]
    log.info("listening", host=host, port=port)
    try:
        if await load_or_end(service, ending):
            log.info("ready")
        await ending.wait()
        finishing = loop.create_task(public.finish(DRAIN_SECONDS))
        await asyncio.wait({finishing, loop.create_task(cut.wait())}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        if service.state == "ready":
            await service.close()
        return 0
    finally:
        ticking.cancel()
        await public.close()


async def tend_every_second(*servers: HttpServer) -> None:
    """Looks after servers until cancelled."""
    while True:
        await asyncio.sleep(1)
        for server in servers:
            server.tend()


def bind_public(name: str, settings: Settings) -> socket.socket:
    """The listening socket of GPUCTL_HOST and GPUCTL_PORT. Raises LoadFailed when it cannot be had."""
    port = settings.port or DEFAULT_PORTS.get(name, 0)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as failure:
        listener.close()
        raise LoadFailed(
            f"cannot listen on {settings.host}:{port}: {failure.strerror or failure}"
        ) from failure
    return listener
