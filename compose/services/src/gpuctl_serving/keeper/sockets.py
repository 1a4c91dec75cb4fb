"""The public sockets that this keeper holds."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from gpuctl_serving.keeper import listeners
from gpuctl_serving.keeper.desired import Listener
from gpuctl_serving.keeper.logs import note


class PublicSockets:
    """Held sockets by address. `holders` names the control sockets of running instances of a service."""

    def __init__(self, holders: Callable[[str], Iterable[Path]]) -> None:
        self._holders = holders
        self._held: dict[Listener, socket.socket] = {}
        self._one_at_a_time = asyncio.Lock()

    def holds(self, listener: Listener) -> bool:
        """Whether connections to this address wait here, whether or not an instance runs."""
        return listener in self._held

    async def ensure(self, listener: Listener) -> socket.socket:
        """The socket: held, or taken back from an instance, or newly bound. Raises Refused."""
        async with self._one_at_a_time:
            if listener not in self._held:
                self._held[listener] = await self._get(listener)
            return self._held[listener]

    async def _get(self, listener: Listener) -> socket.socket:
        taken = await self._take_back(listener)
        return await asyncio.to_thread(listeners.bind, listener) if taken is None else taken

    async def _take_back(self, listener: Listener) -> socket.socket | None:
        for control in self._holders(listener.service):
            fetched = await asyncio.to_thread(listeners.fetch, control)
            if fetched is None:
                continue
            if listeners.is_bound_to(fetched, listener):
                note("listener-adopted", listener=listener.to_json(), control=control)
                return fetched
            fetched.close()
        return None

    def keep_only(self, wanted: Iterable[Listener]) -> None:
        """Closes the others."""
        for listener in set(self._held) - set(wanted):
            self._held.pop(listener).close()
            note("listener-closed", listener=listener.to_json())
