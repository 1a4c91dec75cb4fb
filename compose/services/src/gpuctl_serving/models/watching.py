"""How far a download is, for tools that tell nobody: their growing files do."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gpuctl_serving.models.progress import Progress

_EVERY_SECONDS = 0.25


@asynccontextmanager
async def watching(folder: Path, label: str, progress: Progress) -> AsyncIterator[None]:
    """Tells how many bytes have appeared below `folder` since the block began."""
    before = await asyncio.to_thread(_bytes_below, folder)
    task = asyncio.create_task(_tell(folder, before, label, progress))
    try:
        yield
    finally:
        task.cancel()


async def _tell(folder: Path, before: int, label: str, progress: Progress) -> None:
    while True:
        done = await asyncio.to_thread(_bytes_below, folder) - before
        if done > 0:
            progress.amount(label, done, None, "bytes")
        await asyncio.sleep(_EVERY_SECONDS)


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
