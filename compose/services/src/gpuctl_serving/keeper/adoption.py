"""A new keeper takes over what runs: processes, public sockets, wishes and timers."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from gpuctl_serving.keeper.desired import Damaged, Desired, Exit, Wanted, Wish, exited
from gpuctl_serving.keeper.kept import Kept
from gpuctl_serving.keeper.ledger import Ledger
from gpuctl_serving.keeper.logs import note
from gpuctl_serving.keeper.sockets import PublicSockets
from gpuctl_serving.keeper.store import read_desired
from gpuctl_serving.kit.control import Json, Refused
from gpuctl_serving.kit.process import ProcessIdentity

_HELLO_SECONDS = 2.0
_WISH_OF: Mapping[object, Wish] = {"open": "open", "paused": "closed"}


def read_or_set_aside(file: Path, boot_id: str) -> Desired:
    """What an earlier keeper left. A damaged file is kept beside, and what runs is found by its sockets."""
    try:
        return read_desired(file) or Desired(boot_id)
    except Damaged as damaged:
        aside = file.with_name(f"{file.name}.damaged")
        file.replace(aside)
        note("desired-damaged", reason=str(damaged), kept=aside)
        return Desired(boot_id)


class Adoption:
    """Runs once, before the keeper answers anybody."""

    def __init__(
        self, ledger: Ledger, sockets: PublicSockets, run: Path, kept: Callable[[str], Kept]
    ) -> None:
        self._ledger = ledger
        self._sockets = sockets
        self._run = run
        self._kept = kept

    async def adopt(self) -> None:
        """Takes over processes by pid and by control socket, then their sockets, then follows the wishes."""
        for wanted in self._ledger.desired.instances.values():
            self._adopt_known(wanted)
        await asyncio.gather(*(self._adopt_found(control) for control in self._run.glob("*.ctl")))
        for listener in self._ledger.desired.listeners:
            try:
                await self._sockets.ensure(listener)
            except Refused as refused:
                note("listener-missing", listener=listener.to_json(), reason=str(refused))
        await asyncio.gather(*(self._continue(each) for each in list(self._ledger.desired.instances)))

    def _adopt_known(self, wanted: Wanted) -> None:
        kept = self._kept(wanted.id)
        if wanted.process is None:
            return
        if kept.adopt(wanted.process):
            note("adopted", instance=wanted.id, pid=wanted.process.pid)
        else:
            self._ledger.record_change(wanted.id, lambda now: exited(now, Exit(None, None)))
            note("found-dead", instance=wanted.id, pid=wanted.process.pid)

    async def _adopt_found(self, control: Path) -> None:
        """One that is written down nowhere: its keeper died at the wrong instant, or the file was damaged."""
        instance = control.stem
        known = self._ledger.desired.instances.get(instance)
        if known is not None and known.process is not None:
            return
        hello = await self._hello(self._kept(instance))
        if hello is None or hello.get("id") != instance:
            return
        if known is None:
            wish = _WISH_OF.get(hello.get("traffic"), "started")
            self._ledger.record(self._ledger.desired.with_instance(Wanted(instance, wish)))
        kept = self._kept(instance)
        if not kept.adopt(ProcessIdentity(int(hello["pid"]), int(hello["startTime"]))):
            return
        note("adopted", instance=instance, pid=hello["pid"], by="control socket")
        if kept.listener is not None and kept.wanted.desired != "stopped":
            self._ledger.record(self._ledger.desired.with_listener(kept.listener))

    async def _continue(self, instance: str) -> None:
        kept = self._kept(instance)
        wanted = kept.wanted
        if wanted.stopped_by_reboot:
            return
        kept.arm()
        if kept.watched is not None:
            await self._reconcile(kept, wanted)
        if wanted.desired == "open":
            kept.maintain()

    async def _reconcile(self, kept: Kept, wanted: Wanted) -> None:
        hello = await self._hello(kept)
        traffic = hello.get("traffic") if hello else None
        if traffic == "open" and wanted.desired == "open":
            kept.is_open()
        elif traffic == "open":
            note("pausing", instance=kept.id, reason=f"it shall be {wanted.desired}")
            try:
                await kept.ask({"op": "pause", "drainMs": 0})
                kept.traffic = "paused"
            except Refused as refused:
                note("pause-failed", instance=kept.id, reason=str(refused))
        elif traffic is not None:
            kept.traffic = str(traffic)
        if wanted.desired == "stopped":
            await kept.end_process()

    async def _hello(self, kept: Kept) -> Json | None:
        try:
            return await kept.ask({"op": "hello"}, _HELLO_SECONDS)
        except Refused:
            return None
