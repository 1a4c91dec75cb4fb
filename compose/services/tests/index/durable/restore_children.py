"""Forks processes that restore a backup, or start after that was interrupted, and die at the n-th call."""

import os
import sys
from functools import partial
from pathlib import Path

from gpuctl_serving.index.durable.log import Policy
from gpuctl_serving.index.durable.recovery import Place
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.durable.restore import restore, undo_interrupted
from gpuctl_serving.index.lock import Holder, WriterLock
from tests.index.durable.snapshot_children import CALLS, Dies, main


def child(backup: str, directory: Path, at: int) -> None:
    """Restores a backup; without one, undoes an interrupted restore as a start does."""
    lock = WriterLock(directory, Holder("tool", os.getpid()))
    assert lock.try_take()
    dies = Dies(at)
    for name in CALLS:
        setattr(os, name, dies.around(getattr(os, name)))
    place = Place(directory, Policy(), Report())
    if backup:
        restore(place, Path(backup), generation="", other_model=False)
    else:
        undo_interrupted(place)
    lock.close()


if __name__ == "__main__":
    first, step = int(sys.argv[3]), int(sys.argv[4])
    main(Path(sys.argv[1]), Path(sys.argv[2]), first, step, partial(child, sys.argv[5]))
