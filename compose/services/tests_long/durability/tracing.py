"""strace beside a running process: counts the system calls that change files, and kills at one of them."""

import contextlib
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from types import TracebackType

import pytest

#: Every call by which files and directories change, and `close`, the end of a written file. `?`: a machine
#: whose processor has no such call (aarch64 has no `open`, `rename`, `mkdir`, ...) is traced all the same.
CALLS = (
    "openat", "open", "creat", "close", "write", "writev", "pwrite64", "pwritev", "pwritev2",
    "copy_file_range", "sendfile", "fsync", "fdatasync", "sync_file_range", "msync", "ftruncate",
    "truncate", "fallocate", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat",
)  # fmt: skip
#: Calls that change what a directory says; the others change what a file holds, or only open and close it.
STRUCTURAL = frozenset(
    call for call in CALLS if re.match(r"rename|link|symlink|unlink|mkdir|rmdir|creat|f?truncate", call)
)
_BEGUN = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)")
#: Where `-y` says that a descriptor is no file of a disk.
_NO_FILE = re.compile(r"^\d+<(?:socket|pipe|anon_inode|TCP|UNIX|/dev/)")


def program() -> str:
    """Path of strace. Fails, with the command that brings it, when it is missing."""
    found = shutil.which("strace")
    if found is None:
        pytest.fail(
            "strace is missing; this test kills at system calls with it. "
            "Debian, Ubuntu:  sudo apt-get install strace",
            pytrace=False,
        )
    return found


class Trace:
    """strace attached to a process with all its threads, or to one thread, between `with` and its end."""

    def __init__(
        self, target: int, output: Path, *, threads: bool = False, kill: tuple[str, int] | None = None
    ) -> None:
        self.output = output
        calls = ",".join(f"?{one}" for one in CALLS) if kill is None else kill[0]
        command = [program(), "-y", "-s", "32", "-e", "signal=none", "-e", f"trace={calls}"]
        command += ["-f"] if threads else []
        if kill is not None:
            # At the entry: the kernel ends the process instead of carrying the call out.
            command += ["-e", f"inject={kill[0]}:signal=SIGKILL:when={kill[1]}"]
        self._strace = subprocess.Popen(
            [*command, "-o", str(output), "-p", str(target)],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> "Trace":
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        assert "attached" in said, said
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._strace.poll() is None:
            self._strace.terminate()
        self._strace.communicate(timeout=30)

    def over(self, seconds: float) -> bool:
        """Whether the process is gone within so many seconds: strace ends with it."""
        try:
            self._strace.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def calls(self) -> Counter[tuple[int, str]]:
        """How often each thread began each call on a file of a disk; the thread is 0 when one was traced."""
        counted: Counter[tuple[int, str]] = Counter()
        for line in self.output.read_text(errors="replace").splitlines():
            begun = _BEGUN.match(line)
            if begun is not None and not _NO_FILE.match(begun.group(3)):
                counted[int(begun.group(1) or 0), begun.group(2)] += 1
        return counted

    def last(self) -> str:
        """The last call that began: of a killed process, the one it did not make any more."""
        lines = [line for line in self.output.read_text(errors="replace").splitlines() if _BEGUN.match(line)]
        return lines[-1] if lines else ""


def thread_of(pid: int, name: str) -> int:
    """Number of a process's thread with this name."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Other threads come and go meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() == name:
                found.append(int(task.name))
    assert len(found) == 1, (name, found)
    return found[0]
