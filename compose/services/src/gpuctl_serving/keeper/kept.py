"""One instance under supervision: started, opened, paused, ended, and put back when it dies."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass, replace

from gpuctl_serving.keeper.backoff import BackOff
from gpuctl_serving.keeper.desired import Exit, Listener, Wanted, closed, exited, opened, started, stopped
from gpuctl_serving.keeper.launch import Launch, spawn
from gpuctl_serving.keeper.ledger import Ledger
from gpuctl_serving.keeper.listeners import numeric
from gpuctl_serving.keeper.logs import note
from gpuctl_serving.keeper.paths import Paths
from gpuctl_serving.keeper.sockets import PublicSockets
from gpuctl_serving.keeper.tasks import cancel, run_beside
from gpuctl_serving.keeper.watched import Watched
from gpuctl_serving.kit.control import Json, Refused, ask
from gpuctl_serving.kit.process import ProcessIdentity, boot_ms

CONTROL_SECONDS = 5.0
_READY_POLL_SECONDS = 0.05
_KILLED_SECONDS = 10.0


@dataclass(frozen=True)
class Patience:
    """Seconds after `exit` at which an instance gets SIGTERM and SIGKILL."""

    term: float = 5.0
    kill: float = 10.0


@dataclass(frozen=True)
class Premises:
    """What every instance of an environment shares."""

    paths: Paths
    ledger: Ledger
    sockets: PublicSockets
    patience: Patience


class Kept:
    """One instance. Its wishes are in the ledger; what is here can be found out again."""

    def __init__(self, instance: str, premises: Premises) -> None:
        self.id = instance
        self.launch: Launch | None = None
        self.watched: Watched | None = None
        self.traffic = "closed"
        self._premises = premises
        self._ledger = premises.ledger
        self._control = premises.paths.run / f"{instance}.ctl"
        self._back_off = BackOff()
        self._open_since: float | None = None
        self._maintaining: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> Wanted:
        """What is asked of it."""
        return self._ledger.wanted(self.id)

    async def ask(self, request: Json, seconds: float = CONTROL_SECONDS) -> Json:
        """One request on its control socket. Raises Refused."""
        control = self.launch.control if self.launch else self._control
        try:
            return await ask(control, request, seconds)
        except TimeoutError:
            raise Refused(
                "no-answer", f"{self.id} did not answer {request['op']} within {seconds:g} s"
            ) from None
        except OSError as failure:
            raise Refused(
                "no-answer", f"{self.id} does not answer: {failure.strerror or failure}"
            ) from failure

    def read_launch(self) -> Launch:
        """Reads its launch document anew. Raises Refused."""
        self.launch = Launch.read(self._premises.paths.launch(self.id), self.id)
        return self.launch

    @property
    def listener(self) -> Listener | None:
        """The public address its launch document names."""
        if self.launch is None:
            return None
        return Listener(self.launch.service, numeric(self.launch.host), self.launch.port)

    # ------------------------------------------------------------ what the CLI asks for

    async def start(self) -> int:
        """Starts it unless it runs; its pid. Raises Refused."""
        if self.watched is None:
            await self._spawn()
        if self.watched is None:
            raise Refused("exited", f"{self.id} ended as soon as it was started: see its log")
        return self.watched.identity.pid

    async def open(self) -> None:
        """Lets it answer publicly, and keeps it so from now on. Raises Refused, and leaves all as it was."""
        if self.watched is None:
            raise Refused("not-running", f"{self.id} does not run: start it first")
        before = self.wanted
        self._ledger.record_change(self.id, opened)
        try:
            await self.ask({"op": "accept"})
        except Refused:
            self._ledger.record_change(
                self.id, lambda now: replace(now, desired=before.desired, stop_at_ms=before.stop_at_ms)
            )
            raise
        self._disarm()
        self.is_open()
        self.maintain()

    async def close(self, drain_ms: float) -> Json:
        """Pauses it and keeps it from being restarted. Raises Refused."""
        self._ledger.record_change(self.id, closed)
        return await self.pause(drain_ms)

    async def pause(self, drain_ms: float) -> Json:
        """Waits for its requests to end; its wish stays as it is. Raises Refused."""
        await self._end_maintaining()
        if self.watched is None:
            return {"drained": True, "waitedMs": 0}
        answer = await self.ask({"op": "pause", "drainMs": drain_ms}, drain_ms / 1000 + CONTROL_SECONDS)
        if self.wanted.desired != "open":
            self.traffic = "paused"
        return {"drained": answer.get("drained"), "waitedMs": answer.get("waitedMs")}

    async def stop(self) -> None:
        """Ends it, gently at first. Raises Refused when it cannot be ended."""
        self._ledger.record_change(self.id, stopped)
        await self._end_maintaining()
        self._disarm()
        await self.end_process()

    def stop_later(self, after_ms: int) -> None:
        """Arms a timer on the boot clock, which the next keeper finds and continues."""
        self._ledger.record_change(self.id, lambda now: replace(now, stop_at_ms=boot_ms() + after_ms))
        self.arm()

    # ------------------------------------------------------------ what a new keeper does

    def adopt(self, identity: ProcessIdentity) -> bool:
        """Watches a process that an earlier keeper started. False when it is gone."""
        with contextlib.suppress(Refused):
            self.read_launch()
        self.watched = Watched.adopt(identity, self._on_exit)
        if self.watched is None:
            return False
        self._ledger.record_change(
            self.id, lambda now: replace(now, process=identity, stopped_by_reboot=False)
        )
        return True

    def arm(self) -> None:
        """Waits for the time at which it shall be stopped, if there is one."""
        self._disarm()
        if self.wanted.stop_at_ms is not None:
            self._timer = run_beside(self._stop_at(self.wanted.stop_at_ms), f"{self.id} timer")

    def maintain(self) -> None:
        """Opens it, and starts it again whenever it dies, for as long as it shall be open."""
        if self._maintaining is None or self._maintaining.done():
            self._maintaining = run_beside(self._maintain(), f"{self.id} maintenance")

    async def release(self) -> None:
        """Lets go of it without touching it."""
        await self._end_maintaining()
        self._disarm()
        if self.watched is not None:
            self.watched.release()
            self.watched = None

    async def end_process(self) -> None:
        """`exit`, SIGTERM after 5 s, SIGKILL after 10 s; its wish stays as it is."""
        await self._end_maintaining()
        watched = self.watched
        if watched is None:
            return
        with contextlib.suppress(Refused):
            await self.ask({"op": "exit"}, 1.0)
        patience = self._premises.patience
        if await watched.wait(patience.term):
            return
        watched.signal(signal.SIGTERM)
        if await watched.wait(patience.kill - patience.term):
            return
        watched.signal(signal.SIGKILL)
        if not await watched.wait(_KILLED_SECONDS):
            raise Refused(
                "unkillable",
                f"pid {watched.identity.pid} ignores SIGKILL: it waits in the kernel or a driver",
            )

    # ------------------------------------------------------------ how

    async def _spawn(self) -> None:
        launch = self.read_launch()
        if await self._is_there_already():
            return
        listener = self.listener
        if listener is None or listener not in self._ledger.desired.listeners:
            raise Refused(
                "no-listener", f"{launch.host}:{launch.port} is not held: ask to listen there first"
            )
        held = await self._premises.sockets.ensure(listener)
        if self.watched is not None:
            return  # another request was faster
        child = spawn(launch, held.fileno(), self._premises.paths.state)
        watched = Watched.of_child(child, self._on_exit)
        self.watched, self.traffic, self._open_since = watched, "closed", None
        self._ledger.record_change(self.id, lambda now: started(now, watched.identity))
        note("started", instance=self.id, pid=child.pid)

    async def _is_there_already(self) -> bool:
        """An earlier keeper may have died between starting it and writing down its pid."""
        try:
            hello = await self.ask({"op": "hello"}, 1.0)
        except Refused:
            return False
        return hello.get("id") == self.id and self.adopt(
            ProcessIdentity(int(hello["pid"]), int(hello["startTime"]))
        )

    def _on_exit(self, how: Exit) -> None:
        self.watched, self.traffic = None, "closed"
        if self.id in self._ledger.desired.instances:
            self._ledger.record_change(self.id, lambda now: exited(now, how))
        note("exited", instance=self.id, **how.to_json())

    def is_open(self) -> None:
        """It was seen to accept public connections."""
        if self._open_since is None:
            self._open_since = asyncio.get_running_loop().time()
        self.traffic = "open"

    async def _maintain(self) -> None:
        while self.wanted.desired == "open":
            if self.watched is None:
                await self._restart()
                continue
            if self.traffic != "open":
                await self._open_when_ready(self.watched)
            else:
                await self.watched.gone.wait()

    async def _restart(self) -> None:
        healthy = 0.0 if self._open_since is None else asyncio.get_running_loop().time() - self._open_since
        self._open_since = None
        wait = self._back_off.after(healthy)
        note("restarting", instance=self.id, afterSeconds=wait)
        await asyncio.sleep(wait)
        if self.watched is not None:
            return
        self._ledger.record_change(self.id, lambda now: replace(now, restarts=now.restarts + 1))
        try:
            await self._spawn()
        except Refused as refused:
            note("restart-failed", instance=self.id, reason=str(refused))

    async def _open_when_ready(self, watched: Watched) -> None:
        while not watched.gone.is_set() and self.wanted.desired == "open":
            try:
                await self.ask({"op": "accept"})
            except Refused:
                await watched.wait(_READY_POLL_SECONDS)
                continue
            if not watched.gone.is_set():
                self.is_open()
                note("opened", instance=self.id)
            return

    async def _end_maintaining(self) -> None:
        await cancel(self._maintaining)
        self._maintaining = None

    def _disarm(self) -> None:
        # A timer that fires ends here too: it must not cancel the stop that it has just begun.
        if self._timer is not None and self._timer is not asyncio.current_task():
            self._timer.cancel()
        self._timer = None

    async def _stop_at(self, at_ms: int) -> None:
        # In steps: the loop's clock stands still while the machine sleeps, the boot clock does not.
        never = asyncio.Event()
        while (left := at_ms - boot_ms()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left / 1000, 5.0)):
                    await never.wait()
        if self.wanted.stop_at_ms != at_ms:
            return  # it ended by itself in the meantime, and may have been started anew
        note("stopping", instance=self.id, reason="its time to stay warm is over")
        await self.stop()
