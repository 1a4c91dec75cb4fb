"""What a container is told about itself. The standard library alone: health checks start often."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

Traffic = Literal["open", "paused"]

#: Variables of the container itself; services never see them.
VARIABLES = frozenset(
    {
        "GPUCTL_INSTANCE",
        "GPUCTL_RELEASE",
        "GPUCTL_RUN_DIR",
        "GPUCTL_SLOT",
        "GPUCTL_TRAFFIC",
        "GPUCTL_TRAFFIC_DIR",
    }
)
_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class PlaceError(Exception):
    """A variable of the container cannot be used; a full sentence."""


@dataclass(frozen=True)
class Place:
    """One instance in one container."""

    instance: str
    release: str
    slot: str
    #: Holds the private socket; gone with the container or mounted for others to ask through.
    run: Path
    #: Holds the traffic gate; mounted, so that it outlives the container.
    gates: Path
    #: What the gate says while nobody has set it.
    initial: Traffic

    @classmethod
    def read(cls, env: Mapping[str, str]) -> "Place":
        """Raises PlaceError. Containers that share a directory each need a GPUCTL_INSTANCE."""
        instance = env.get("GPUCTL_INSTANCE") or "service"
        if not _ID.fullmatch(instance):
            raise PlaceError(
                f"GPUCTL_INSTANCE={instance!r}: must be small letters, digits, dots and dashes, 64 at most"
            )
        initial = env.get("GPUCTL_TRAFFIC") or "open"
        if initial not in get_args(Traffic):
            raise PlaceError(f"GPUCTL_TRAFFIC={initial!r}: must be open or paused")
        return cls(
            instance=instance,
            release=env.get("GPUCTL_RELEASE", ""),
            slot=env.get("GPUCTL_SLOT", ""),
            run=Path(env.get("GPUCTL_RUN_DIR") or "/run/gpuctl"),
            gates=Path(env.get("GPUCTL_TRAFFIC_DIR") or "/var/lib/gpuctl/traffic"),
            initial=cast(Traffic, initial),
        )

    @property
    def private(self) -> Path:
        """The private socket."""
        return self.run / f"{self.instance}.http"

    @property
    def document(self) -> Path:
        """The launch document, from which a service reads who it is (docs/architecture.md)."""
        return self.run / f"{self.instance}.json"

    @property
    def gate(self) -> Path:
        """The traffic gate: a file that says `open` or `paused`."""
        return self.gates / self.instance
