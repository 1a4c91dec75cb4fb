"""Starting an instance from its launch document."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gpuctl_serving.kit.control import Refused

#: What an instance inherits from the keeper's environment; everything else is in its launch document.
INHERITED = ("PATH", "HOME", "LANG", "TZ")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def checked_id(value: object) -> str:
    """An instance id that is safe as a file name. Raises Refused."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Refused("bad-request", f'"id" is letters, digits, ".", "_" and "-", not {value!r}')
    return value


@dataclass(frozen=True)
class Launch:
    """How to start an instance (docs/architecture.md, Launch document)."""

    file: Path
    id: str
    service: str
    release: str
    slot: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    host: str
    port: int
    private: Path
    control: Path
    log: Path

    @classmethod
    def read(cls, file: Path, instance: str) -> Self:
        """Raises Refused when it is missing or not one."""
        try:
            document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if document["id"] != instance or document["schemaVersion"] != 1:
                raise ValueError(
                    f"it describes {document['id']!r}, schema version {document['schemaVersion']!r}"
                )
            return cls(
                file=file,
                id=instance,
                service=str(document["service"]),
                release=str(document["release"]),
                slot=str(document["slot"]),
                argv=_strings(document["argv"]),
                env=dict(zip(document["env"], _strings(list(document["env"].values())), strict=True)),
                host=str(document["listen"]["host"]),
                port=int(document["listen"]["port"]),
                private=Path(document["private"]),
                control=Path(document["control"]),
                log=Path(document["log"]),
            )
        except FileNotFoundError:
            raise Refused(
                "no-launch-document", f"{file} does not exist: deploy again to have it written"
            ) from None
        except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as wrong:
            raise Refused(
                "bad-launch-document",
                f"{file} cannot be used ({type(wrong).__name__}: {wrong}): deploy again",
            ) from wrong

    def environment(self, listen_fd: int, own: Mapping[str, str]) -> dict[str, str]:
        """Exactly what the process gets, whatever the keeper was started from."""
        return {
            **{name: own[name] for name in INHERITED if name in own},
            **self.env,
            "GPUCTL_INSTANCE_FILE": str(self.file),
            "GPUCTL_LISTEN_FD": str(listen_fd),
        }


def _strings(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        if values == []:
            return ()
        raise TypeError("argv and env hold strings")
    return tuple(values)


def spawn(launch: Launch, listen_fd: int, directory: Path) -> "subprocess.Popen[bytes]":
    """Starts the process in a session of its own, writing straight into its log file. Raises Refused.

    The log is a file opened for appending, never a pipe: an instance outlives its keeper, and must neither
    be ended nor stopped by a pipe that nobody reads. The keeper rotates it by copying and truncating.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        log = os.open(launch.log, flags, 0o600)
    except OSError as failure:
        raise Refused("log-unwritable", f"{launch.log} cannot be opened: {failure.strerror}") from failure
    try:
        return subprocess.Popen(  # noqa: S603 - argv comes from our own 0600 launch document
            launch.argv,
            env=launch.environment(listen_fd, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(listen_fd,),
            start_new_session=True,
            cwd=directory,
        )
    except (OSError, ValueError, IndexError) as failure:
        raise Refused("start-failed", f"{launch.argv[:1]} cannot be started: {failure}") from failure
    finally:
        os.close(log)
