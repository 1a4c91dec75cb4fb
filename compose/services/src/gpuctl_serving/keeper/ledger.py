"""The desired state in memory and on disk, changed together."""

from collections.abc import Callable
from pathlib import Path

from gpuctl_serving.keeper.desired import Desired, Wanted
from gpuctl_serving.keeper.logs import note
from gpuctl_serving.keeper.store import write_atomically
from gpuctl_serving.kit.control import Refused


class Ledger:
    """What the next keeper will read, and this one acts on.

    `commit` is for what adds something, and refuses when it cannot be written down. `record` is for what
    has already happened, and for opening, closing and stopping: a full disk must not bar the way back.
    """

    def __init__(self, desired: Desired, file: Path) -> None:
        self.desired = desired
        self._file = file

    def commit(self, desired: Desired) -> None:
        """Writes before anything is done about it. Raises Refused, changing nothing, when that fails."""
        if desired == self.desired:
            return
        try:
            write_atomically(self._file, desired.to_json())
        except OSError as failure:
            raise Refused(
                "state-unwritable",
                f"{self._file} cannot be written ({failure.strerror}): free space, then try again",
            ) from failure
        self.desired = desired

    def record(self, desired: Desired) -> None:
        """Writes it when that is possible, and acts on it in any case."""
        try:
            self.commit(desired)
        except Refused as refused:
            note("state-unwritable", reason=str(refused))
            self.desired = desired

    def wanted(self, instance: str) -> Wanted:
        """One instance. Raises Refused."""
        wanted = self.desired.instances.get(instance)
        if wanted is None:
            raise Refused(
                "unknown-instance", f"{instance} was never started here; `gpuctl status` lists what was"
            )
        return wanted

    def record_change(self, instance: str, by: Callable[[Wanted], Wanted]) -> None:
        """Records a change of one instance."""
        self.record(self.desired.with_instance(by(self.wanted(instance))))
