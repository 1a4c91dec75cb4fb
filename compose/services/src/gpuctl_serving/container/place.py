"""What a container is told about itself. The standard library alone: health checks start often."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Traffic = Literal["open", "paused"]

#: What a gate may say. `closed` is the word of whoever deploys; an instance behind a proxy then pauses.
WORDS: Mapping[str, Traffic] = {"open": "open", "paused": "paused", "closed": "paused"}
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
    """What a container is told cannot be used; a full sentence."""


@dataclass(frozen=True)
class Place:
    """One instance in one container."""

    instance: str
    release: str
    slot: str
    #: The launch document, from which a service reads who it is (docs/architecture.md).
    document: Path
    #: The private socket.
    private: Path
    #: The traffic gate: a mounted file that says `open` or `paused`, so that it outlives the container.
    gate: Path
    #: What a gate that is not there means.
    initial: Traffic
    #: Whether somebody else wrote the document and keeps the gate; else both are made here.
    deployed: bool
    #: Seconds after which a gate that is not open closes the port too; None leaves the port open.
    linger: float | None = None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> "Place":
        """From GPUCTL_INSTANCE_FILE where it is set, else from single variables. Raises PlaceError."""
        gates = Path(env.get("GPUCTL_TRAFFIC_DIR") or "/var/lib/gpuctl/traffic")
        if document := env.get("GPUCTL_INSTANCE_FILE"):
            return cls._deployed(Path(document), gates)
        instance = env.get("GPUCTL_INSTANCE") or "service"
        if not _ID.fullmatch(instance):
            raise PlaceError(
                f"GPUCTL_INSTANCE={instance!r}: must be small letters, digits, dots and dashes, 64 at most"
            )
        initial = env.get("GPUCTL_TRAFFIC") or "open"
        if initial not in WORDS:
            raise PlaceError(f"GPUCTL_TRAFFIC={initial!r}: must be open or paused")
        run = Path(env.get("GPUCTL_RUN_DIR") or "/run/gpuctl")
        return cls(
            instance=instance,
            release=env.get("GPUCTL_RELEASE", ""),
            slot=env.get("GPUCTL_SLOT", ""),
            document=run / f"{instance}.json",
            private=run / f"{instance}.http",
            gate=gates / instance,
            initial=WORDS[initial],
            deployed=False,
        )

    @classmethod
    def _deployed(cls, file: Path, gates: Path) -> "Place":
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            instance = str(document["id"])
            return cls(
                instance=instance,
                release=str(document["release"]),
                slot=str(document["slot"]),
                document=file,
                private=Path(document["private"]),
                gate=Path(document.get("gate") or gates / instance),
                # Nothing unproven gets traffic because a file is missing.
                initial="paused",
                deployed=True,
                linger=None if document.get("lingerMs") is None else float(document["lingerMs"]) / 1000,
            )
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise PlaceError(f"GPUCTL_INSTANCE_FILE={file} cannot be used: {wrong!r}") from wrong

    def write_document(self, service: str) -> None:
        """Writes the launch document where nobody else did. Raises PlaceError when it cannot be."""
        if self.deployed:
            return
        document = {
            "id": self.instance,
            "service": service,
            "release": self.release,
            "slot": self.slot,
            "private": str(self.private),
            "control": "",
        }
        try:
            self.document.parent.mkdir(parents=True, exist_ok=True)
            self.document.write_text(json.dumps(document), encoding="utf-8")
        except OSError as failure:
            raise PlaceError(
                f"{self.document.parent} cannot be written by uid {os.getuid()}: {failure.strerror}. Mount a "
                "tmpfs or a directory of that user there, or set GPUCTL_RUN_DIR"
            ) from failure
