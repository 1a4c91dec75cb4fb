"""One process, held by pidfd: it is never confused with another that gets its pid."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Self

from gpuctl_serving.keeper.desired import Exit
from gpuctl_serving.kit.process import ProcessIdentity, is_running, start_time


class Watched:
    """A running process, a child of this keeper or one adopted from an earlier keeper."""

    def __init__(
        self,
        identity: ProcessIdentity,
        descriptor: int,
        child: "subprocess.Popen[bytes] | None",
        ended: Callable[[Exit], None],
    ) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._child = child
        self._ended = ended
        self.gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._on_exit)

    @classmethod
    def of_child(cls, child: "subprocess.Popen[bytes]", ended: Callable[[Exit], None]) -> Self:
        """A process just started. Its pid cannot be reused before this keeper has waited for it."""
        descriptor = os.pidfd_open(child.pid)
        # A child that has already ended is a zombie: it has no start time that matters any more.
        return cls(ProcessIdentity(child.pid, start_time(child.pid) or 0), descriptor, child, ended)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, ended: Callable[[Exit], None]) -> Self | None:
        """A process that is no child; None when it is gone."""
        try:
            descriptor = os.pidfd_open(identity.pid)
        except OSError:
            return None
        # Checked after opening: what the descriptor holds is what is checked.
        if not is_running(identity):
            os.close(descriptor)
            return None
        return cls(identity, descriptor, None, ended)

    def signal(self, number: signal.Signals) -> None:
        """Signals exactly this process; nothing when it is gone."""
        if not self.gone.is_set():
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                return

    async def wait(self, seconds: float) -> bool:
        """Whether it was gone within the time."""
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        """Watches it no more and lets it run."""
        if not self.gone.is_set():
            self._close()
            if self._child is not None:
                self._child.returncode = 0  # it is not waited for: another keeper adopts it

    def _on_exit(self) -> None:
        self._close()
        how = Exit(None, None)
        if self._child is not None:
            status = self._child.wait()
            how = Exit(status, None) if status >= 0 else Exit(None, _signal_name(-status))
        self.gone.set()
        self._ended(how)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
