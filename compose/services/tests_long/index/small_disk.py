"""A disk of a few MiB: a tmpfs in a mount namespace of its own, which lives as long as its holder."""

import contextlib
import os
import subprocess
from pathlib import Path
from types import TracebackType


class SmallDisk:
    """Between `with` and its end, `program` runs a command where the disk is at `directory`."""

    def __init__(self, directory: Path, mib: int) -> None:
        directory.mkdir()
        self.directory = directory
        mount = f'mount -t tmpfs -o size={mib}m small "$0" && echo ready && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(directory)],  # noqa: S607
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "no tmpfs in a namespace here"
        #: The same directory as this process sees it.
        self.seen = Path(f"/proc/{self._holder.pid}/root{directory}")

    @property
    def program(self) -> list[str]:
        """What goes before a command to run it there; its process stays the child."""
        return ["nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials"]

    def leave(self, kib: int) -> None:
        """Fills it up to so much room, or makes so much."""
        self.empty()
        # Others write meanwhile: whoever takes the last page, none is left.
        with contextlib.suppress(OSError), (self.seen / "filler").open("wb", buffering=0) as file:
            while (left := self._free() - kib * 1024) > 0:
                file.write(bytes(min(left, 1 << 16)))

    def empty(self) -> None:
        """Gives back what filled it."""
        (self.seen / "filler").unlink(missing_ok=True)

    def _free(self) -> int:
        said = os.statvfs(self.seen)
        return said.f_bavail * said.f_frsize

    def __enter__(self) -> "SmallDisk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
