"""What should run, as an immutable value and the pure functions that change it."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, cast, get_args

from gpuctl_serving.kit.process import ProcessIdentity

Wish = Literal["started", "open", "closed", "stopped"]
Json = dict[str, Any]


class Damaged(Exception):
    """The file does not hold a desired state."""


@dataclass(frozen=True)
class Exit:
    """How a process ended: a status, or the name of a signal; neither when it was not this keeper's child."""

    code: int | None
    signal: str | None

    def to_json(self) -> Json:
        """As in desired.json and `list`."""
        return {"code": self.code, "signal": self.signal}


@dataclass(frozen=True)
class Listener:
    """A public socket."""

    service: str
    host: str
    port: int

    def to_json(self) -> Json:
        """As in desired.json."""
        return {"service": self.service, "host": self.host, "port": self.port}


@dataclass(frozen=True)
class Restore:
    """The promise to bring a stopped instance back: at this time, or as soon as its operator is gone."""

    #: On the boot clock.
    at_ms: int
    operator: ProcessIdentity | None = None

    def to_json(self) -> Json:
        """As in desired.json."""
        return {"atMs": self.at_ms, "operator": list(self.operator) if self.operator else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError when it is not one."""
        operator = value.get("operator")
        return cls(int(value["atMs"]), ProcessIdentity(*map(int, operator)) if operator else None)


@dataclass(frozen=True)
class Wanted:
    """One instance: what the CLI asked for, and the process that was last seen to do it."""

    id: str
    desired: Wish
    process: ProcessIdentity | None = None
    restarts: int = 0
    #: On the boot clock.
    stop_at_ms: int | None = None
    last_exit: Exit | None = None
    #: Its process ended with a boot of the machine, and nobody asked for another since.
    stopped_by_reboot: bool = False
    #: Stopped only so that its successor finds room.
    restore: Restore | None = None

    @property
    def may_run(self) -> bool:
        """Whether the keeper may start it by itself."""
        return self.desired == "open" or self.restore is not None

    @property
    def after_boot(self) -> Wish:
        """What is asked of it once a boot has ended all processes and timers."""
        if self.restore is not None:
            return "open"
        return "stopped" if self.stop_at_ms is not None else self.desired

    def to_json(self) -> Json:
        """As in desired.json."""
        return {
            "id": self.id,
            "desired": self.desired,
            "pid": self.process.pid if self.process else None,
            "startTime": self.process.start_time if self.process else None,
            "restarts": self.restarts,
            "stopAtMs": self.stop_at_ms,
            "lastExit": self.last_exit.to_json() if self.last_exit else None,
            "stoppedByReboot": self.stopped_by_reboot,
            "restore": self.restore.to_json() if self.restore else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError when it is not one."""
        if value["desired"] not in get_args(Wish):
            raise ValueError(value["desired"])
        pid, started = value.get("pid"), value.get("startTime")
        ended = value.get("lastExit")
        stop_at = value.get("stopAtMs")
        return cls(
            id=str(value["id"]),
            desired=cast(Wish, value["desired"]),
            process=ProcessIdentity(int(pid), int(started))
            if pid is not None and started is not None
            else None,
            restarts=int(value.get("restarts", 0)),
            stop_at_ms=None if stop_at is None else int(stop_at),
            last_exit=Exit(ended.get("code"), ended.get("signal")) if ended else None,
            stopped_by_reboot=bool(value.get("stoppedByReboot", False)),
            restore=Restore.from_json(value["restore"]) if value.get("restore") else None,
        )


@dataclass(frozen=True)
class Desired:
    """Everything a keeper must know to continue another one's work."""

    boot_id: str
    #: Highest fencing token seen.
    token: int = 0
    #: In the order they were asked for; the last one of a service is its current one.
    listeners: tuple[Listener, ...] = ()
    instances: Mapping[str, Wanted] = field(default_factory=dict)

    def admits(self, token: int) -> bool:
        """Whether a request with this fencing token may change anything."""
        return token >= self.token

    def with_token(self, token: int) -> "Desired":
        """Remembers the highest token."""
        return replace(self, token=max(self.token, token))

    def with_listener(self, listener: Listener) -> "Desired":
        """Makes it the current one of its service. An earlier one stays, for the instances that use it."""
        return replace(self, listeners=(*(each for each in self.listeners if each != listener), listener))

    def without_idle_listeners(self, used: Set[Listener]) -> "Desired":
        """Drops sockets that no instance uses, unless they are the current one of their service."""
        current = {each.service: each for each in self.listeners}
        kept = tuple(each for each in self.listeners if each in used or current[each.service] == each)
        return replace(self, listeners=kept)

    def with_instance(self, wanted: Wanted) -> "Desired":
        """Adds or replaces an instance."""
        return replace(self, instances={**self.instances, wanted.id: wanted})

    def without_instance(self, instance: str) -> "Desired":
        """Forgets an instance."""
        return replace(self, instances={k: v for k, v in self.instances.items() if k != instance})

    def after_boot(self, boot_id: str) -> "Desired":
        """As it is on this boot: on another one than it was written on, no process and no timer is left."""
        if boot_id == self.boot_id:
            return self
        instances = {
            each.id: replace(
                each,
                process=None,
                stop_at_ms=None,
                desired=each.after_boot,
                stopped_by_reboot=each.desired != "stopped" or each.restore is not None,
                restore=None,
            )
            for each in self.instances.values()
        }
        return replace(self, boot_id=boot_id, instances=instances)

    def to_json(self) -> Json:
        """The content of desired.json."""
        return {
            "schemaVersion": 1,
            "bootId": self.boot_id,
            "token": self.token,
            "listeners": [each.to_json() for each in self.listeners],
            "instances": [each.to_json() for each in self.instances.values()],
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises Damaged when it is not one."""
        try:
            if value["schemaVersion"] != 1:
                raise ValueError(f"schemaVersion {value['schemaVersion']}")
            listeners = [
                Listener(str(v["service"]), str(v["host"]), int(v["port"])) for v in value["listeners"]
            ]
            instances = [Wanted.from_json(v) for v in value["instances"]]
            return cls(
                boot_id=str(value["bootId"]),
                token=int(value["token"]),
                listeners=tuple(listeners),
                instances={each.id: each for each in instances},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise Damaged(f"{type(wrong).__name__}: {wrong}") from wrong


def opened(wanted: Wanted) -> Wanted:
    """It shall answer public requests, and be restarted when it dies; a planned stop is off."""
    return replace(wanted, desired="open", stop_at_ms=None, restore=None)


def closed(wanted: Wanted) -> Wanted:
    """It shall be paused, and not be restarted."""
    return replace(wanted, desired="closed")


def started(wanted: Wanted, process: ProcessIdentity) -> Wanted:
    """A process runs. Unless it shall be open, it waits to be opened, and is not restarted."""
    return replace(
        wanted,
        desired="open" if wanted.desired == "open" else "started",
        process=process,
        stop_at_ms=None,
        stopped_by_reboot=False,
    )


def exited(wanted: Wanted, how: Exit) -> Wanted:
    """Its process ended."""
    return replace(wanted, process=None, last_exit=how, stop_at_ms=None)


def stopped(wanted: Wanted) -> Wanted:
    """It shall not run."""
    return replace(wanted, desired="stopped", stop_at_ms=None, stopped_by_reboot=False, restore=None)


def suspended(wanted: Wanted, restore: Restore | None) -> Wanted:
    """It shall make room, and come back unless its successor is opened first; None: for good."""
    return replace(wanted, desired="stopped", stop_at_ms=None, restore=restore)
