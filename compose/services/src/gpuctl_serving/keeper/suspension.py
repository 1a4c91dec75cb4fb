"""Instances stopped to make room for a successor, and brought back when the one who stopped them is lost."""

from collections.abc import Callable, Iterable

from gpuctl_serving.keeper.desired import Restore, opened, suspended
from gpuctl_serving.keeper.kept import Kept
from gpuctl_serving.keeper.ledger import Ledger
from gpuctl_serving.keeper.logs import note
from gpuctl_serving.kit.control import Json, Refused
from gpuctl_serving.kit.process import boot_ms, is_running


class Suspension:
    """A promise written down before anything stops: it outlives the operator and the keeper."""

    def __init__(self, ledger: Ledger, supervised: Callable[[], Iterable[Kept]]) -> None:
        self._ledger = ledger
        self._supervised = supervised

    async def suspend(self, kept: Kept, restore: Restore, drain_ms: float) -> Json:
        """Drains and ends an instance that shall come back by itself. Raises Refused."""
        if kept.launch is None:
            kept.read_launch()
        self._ledger.commit(self._ledger.desired.with_instance(suspended(kept.wanted, restore)))
        paused = await kept.pause(drain_ms)
        await kept.end_process()
        return paused

    def call_off(self, successor: Kept) -> Json:
        """The successor answers: nothing of its service comes back by itself any more."""
        for kept in list(self._supervised()):
            if kept.wanted.restore is not None and _service(kept) == _service(successor):
                self._ledger.record_change(kept.id, lambda now: suspended(now, None))
        return {}

    async def bring_back(self) -> None:
        """Brings back what is due. Never raises: it is asked again in a moment."""
        for kept in list(self._supervised()):
            restore = kept.wanted.restore
            if restore is None or not _due(restore):
                continue
            try:
                await self._make_room(kept)
                if kept.wanted.restore != restore:
                    continue  # opened, stopped or called off in the meantime
                note("bringing-back", instance=kept.id, reason="its successor was never opened")
                self._ledger.record_change(kept.id, opened)
                kept.maintain()
            except Refused as refused:
                note("bring-back-failed", instance=kept.id, reason=str(refused))

    async def _make_room(self, kept: Kept) -> None:
        for rival in list(self._supervised()):
            if rival is not kept and rival.wanted.desired == "started" and _service(rival) == _service(kept):
                await rival.stop()


def _due(restore: Restore) -> bool:
    return boot_ms() >= restore.at_ms or (restore.operator is not None and not is_running(restore.operator))


def _service(kept: Kept) -> str | None:
    if kept.launch is None:
        try:
            kept.read_launch()
        except Refused:
            return None
    return kept.launch.service if kept.launch else None
