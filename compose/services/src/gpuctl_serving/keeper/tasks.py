"""Work that goes on beside the answering of requests."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from gpuctl_serving.keeper.logs import note


def run_beside(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Starts it; a failure is noted in the keeper's log, and never ends the keeper."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_report)
    return task


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        note("failed", task=task.get_name(), reason=f"{type(failure).__name__}: {failure}")


async def cancel(task: "asyncio.Task[None] | None") -> None:
    """Ends it, and waits until it has ended."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
