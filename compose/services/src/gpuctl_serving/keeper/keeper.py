"""The keeper of one environment: what it answers, and what it does by itself."""

import asyncio
import contextlib
import signal
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gpuctl_serving import __version__
from gpuctl_serving.keeper import PROTOCOL
from gpuctl_serving.keeper.adoption import Adoption, read_or_set_aside
from gpuctl_serving.keeper.desired import Restore, Wanted
from gpuctl_serving.keeper.kept import Kept, Patience, Premises
from gpuctl_serving.keeper.launch import Launch, checked_id
from gpuctl_serving.keeper.ledger import Ledger
from gpuctl_serving.keeper.listeners import checked_address
from gpuctl_serving.keeper.logs import ROTATE_BYTES, note, rotate_all
from gpuctl_serving.keeper.paths import Paths
from gpuctl_serving.keeper.request_fields import milliseconds, operator_of
from gpuctl_serving.keeper.sockets import PublicSockets
from gpuctl_serving.keeper.store import write_atomically
from gpuctl_serving.keeper.suspension import Suspension
from gpuctl_serving.kit.control import Answer, Json, LineServer, Refused, bind_unix
from gpuctl_serving.kit.process import boot_id, boot_ms, own_identity

_HOUSEKEEPING_SECONDS = 2.0
_HELLO_SECONDS = 0.5
_DEFAULT_DRAIN_MS = 30_000
_DEFAULT_RESTORE_MS = 15 * 60 * 1000


@dataclass(frozen=True)
class Options:
    """How a keeper runs. All but `restore` have one right value outside tests."""

    restore: bool = False
    boot_id: str | None = None
    rotate_bytes: int = ROTATE_BYTES
    patience: Patience = field(default_factory=Patience)


class Keeper:
    """Holds public sockets, supervises instances, answers on `run/keeper.sock`."""

    def __init__(self, paths: Paths, options: Options | None = None) -> None:
        self._paths = paths
        self._options = options or Options()
        self._boot_id = self._options.boot_id or boot_id()
        self._identity = own_identity()
        self._kept: dict[str, Kept] = {}
        self._sockets = PublicSockets(self._controls)
        left = read_or_set_aside(paths.desired, self._boot_id)
        self._ledger = Ledger(left.after_boot(self._boot_id), paths.desired)
        #: After a boot nothing is bound either: a client is better refused than kept waiting for nobody.
        self._rebooted = left.boot_id != self._boot_id and not self._options.restore
        self._premises = Premises(paths, self._ledger, self._sockets, self._options.patience)
        self._suspension = Suspension(self._ledger, self._supervised)
        self._ending = asyncio.Event()
        self._ops: dict[str, tuple[float, Callable[[Json], Awaitable[Json]]]] = {
            "hello": (5, self._hello),
            "listen": (10, self._listen),
            "start": (12, self._start),
            "open": (12, self._open),
            "close": (10, self._close),
            "stop": (30, self._stop),
            "suspend": (40, self._suspend),
            "forget": (5, self._forget),
            "list": (5, self._list),
            "shutdown": (40, self._shutdown),
        }

    async def run(self) -> None:
        """Adopts, restores, answers until it is told to end."""
        try:
            write_atomically(self._paths.identity, self._who())
        except OSError as failure:
            # A full disk must not keep a new keeper from adopting what serves.
            note("identity-unwritable", reason=str(failure))
        if self._rebooted:
            note("rebooted", reason="everything was stopped by a reboot: `gpuctl deploy` starts it again")
        else:
            await self._take_over()
        server = LineServer(bind_unix(self._paths.socket), self._handle)
        loop = asyncio.get_running_loop()
        ending: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGTERM, self._ending.set)
        loop.add_signal_handler(signal.SIGINT, lambda: ending.add(loop.create_task(self._end_all())))
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        housekeeping = loop.create_task(self._keep_house())
        note("serving", **self._who())
        await self._ending.wait()
        housekeeping.cancel()
        await server.close()
        self._paths.socket.unlink(missing_ok=True)
        for kept in self._kept.values():
            await kept.release()
        note("ended")

    async def _take_over(self) -> None:
        if self._options.restore:
            for wanted in self._ledger.desired.instances.values():
                if wanted.stopped_by_reboot and wanted.desired == "open":
                    self._ledger.record_change(wanted.id, _awake)
        await Adoption(self._ledger, self._sockets, self._paths.run, self._instance).adopt()

    def _instance(self, instance: str) -> Kept:
        if instance not in self._kept:
            self._kept[instance] = Kept(instance, self._premises)
        return self._kept[instance]

    def _controls(self, service: str) -> Iterable[Path]:
        for kept in self._kept.values():
            if kept.watched is not None and kept.launch is not None and kept.launch.service == service:
                yield kept.launch.control

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            await asyncio.to_thread(rotate_all, self._paths.logs, self._options.rotate_bytes)
            for listener in () if self._rebooted else self._ledger.desired.listeners:
                with contextlib.suppress(Refused):
                    await self._sockets.ensure(listener)
            await self._suspension.bring_back()

    # ------------------------------------------------------------ requests

    async def _handle(self, request: Json) -> Answer:
        known = self._ops.get(request["op"])
        if known is None:
            raise Refused("unknown-op", f"a keeper answers {', '.join(self._ops)}, not {request['op']!r}")
        seconds, operation = known
        if request["op"] in ("close", "suspend"):
            seconds += milliseconds(request, "drainMs", _DEFAULT_DRAIN_MS) / 1000
        if request["op"] not in ("hello", "list"):
            self._admit(request)
        try:
            async with asyncio.timeout(seconds):
                return Answer({"ok": True, **await operation(request)})
        except (Refused, TimeoutError):
            raise
        except Exception:
            note("request-failed", op=request["op"], trace=traceback.format_exc())
            raise

    def _admit(self, request: Json) -> None:
        token = request.get("token")
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise Refused(
                "bad-request", '"token" is the number of the lease under which something is changed'
            )
        desired = self._ledger.desired
        if not desired.admits(token):
            raise Refused(
                "stale-token",
                f"token {token} is of an older lease, {desired.token} was seen: run the command again",
            )
        self._ledger.record(desired.with_token(token))

    def _known(self, request: Json) -> Kept:
        instance = checked_id(request.get("id"))
        self._ledger.wanted(instance)
        return self._instance(instance)

    def _who(self) -> Json:
        pid, started = self._identity
        return {
            "pid": pid,
            "startTime": started,
            "bootId": self._boot_id,
            "version": __version__,
            "protocol": PROTOCOL,
        }

    async def _hello(self, _: Json) -> Json:
        return self._who()

    async def _listen(self, request: Json) -> Json:
        listener = checked_address(request.get("service"), request.get("host"), request.get("port"))
        # Bound before it is written down: an address that cannot be had must not be tried for ever after.
        await self._sockets.ensure(listener)
        self._ledger.commit(self._ledger.desired.with_listener(listener))
        return {}

    async def _start(self, request: Json) -> Json:
        instance = checked_id(request.get("id"))
        Launch.read(self._paths.launch(instance), instance)  # refused before anything is written down
        if instance not in self._ledger.desired.instances:
            self._ledger.commit(self._ledger.desired.with_instance(Wanted(instance, "started")))
        return {"pid": await self._instance(instance).start()}

    async def _open(self, request: Json) -> Json:
        await self._known(request).open()
        return self._suspension.call_off(self._known(request))

    async def _close(self, request: Json) -> Json:
        return await self._known(request).close(milliseconds(request, "drainMs", _DEFAULT_DRAIN_MS))

    async def _stop(self, request: Json) -> Json:
        kept = self._known(request)
        if request.get("afterMs") is not None and kept.watched is not None:
            kept.stop_later(milliseconds(request, "afterMs", 0))
            return {}
        await kept.stop()
        self._drop_idle_listeners()
        return {}

    async def _suspend(self, request: Json) -> Json:
        after = milliseconds(request, "restoreAfterMs", _DEFAULT_RESTORE_MS)
        restore = Restore(boot_ms() + after, operator_of(request))
        drain = milliseconds(request, "drainMs", _DEFAULT_DRAIN_MS)
        return await self._suspension.suspend(self._known(request), restore, drain)

    async def _forget(self, request: Json) -> Json:
        kept = self._known(request)
        if kept.watched is not None:
            raise Refused("running", f"{kept.id} runs: stop it first")
        await kept.release()
        del self._kept[kept.id]
        self._ledger.commit(self._ledger.desired.without_instance(kept.id))
        self._drop_idle_listeners()
        return {}

    def _drop_idle_listeners(self) -> None:
        used = {
            kept.listener
            for kept in self._supervised()
            if kept.listener is not None and (kept.watched is not None or kept.wanted.may_run)
        }
        self._ledger.record(self._ledger.desired.without_idle_listeners(used))
        self._sockets.keep_only(self._ledger.desired.listeners)

    async def _list(self, _: Json) -> Json:
        desired = self._ledger.desired
        instances = await asyncio.gather(*(self._describe(each) for each in desired.instances.values()))
        listeners = [{**each.to_json(), "bound": self._sockets.holds(each)} for each in desired.listeners]
        return {"bootId": self._boot_id, "listeners": listeners, "instances": instances}

    async def _describe(self, wanted: Wanted) -> Json:
        kept = self._instance(wanted.id)
        hello: Json = {}
        if kept.watched is not None:
            with contextlib.suppress(Refused):
                hello = await kept.ask({"op": "hello"}, _HELLO_SECONDS)
        if kept.launch is None:
            with contextlib.suppress(Refused):
                kept.read_launch()
        names = {
            name: getattr(kept.launch, name) if kept.launch else hello.get(name)
            for name in ("service", "release", "slot")
        }
        wanted = kept.wanted
        return {
            "id": wanted.id,
            **names,
            "process": _process(kept, wanted),
            "desired": wanted.desired,
            "traffic": hello.get("traffic", kept.traffic),
            "restarts": wanted.restarts,
            "inflight": hello.get("inflight"),
            "stopsInMs": None if wanted.stop_at_ms is None else max(0, wanted.stop_at_ms - boot_ms()),
            "lastExit": wanted.last_exit.to_json() if wanted.last_exit else None,
        }

    async def _shutdown(self, request: Json) -> Json:
        if request.get("keepInstances") is not True:
            results = await asyncio.gather(
                *(each.stop() for each in self._supervised()), return_exceptions=True
            )
            for failure in (each for each in results if isinstance(each, BaseException)):
                raise failure
        # Given a moment, the answer is read before the connection ends.
        asyncio.get_running_loop().call_later(0.05, self._ending.set)
        return {}

    async def _end_all(self) -> None:
        """SIGINT: ends the instances, and leaves the wishes: the next keeper puts everything back."""
        await asyncio.gather(*(each.end_process() for each in self._supervised()), return_exceptions=True)
        self._ending.set()

    def _supervised(self) -> list[Kept]:
        return [kept for kept in self._kept.values() if kept.id in self._ledger.desired.instances]


def _awake(wanted: Wanted) -> Wanted:
    return Wanted(wanted.id, wanted.desired, restarts=wanted.restarts, last_exit=wanted.last_exit)


def _process(kept: Kept, wanted: Wanted) -> Json:
    if kept.watched is not None:
        pid, started = kept.watched.identity
        return {"state": "running", "pid": pid, "startTime": started}
    if wanted.stopped_by_reboot:
        return {"state": "stopped-by-reboot"}
    if wanted.desired != "stopped" and wanted.last_exit is not None:
        return {"state": "exited", **wanted.last_exit.to_json()}
    return {"state": "stopped"}
