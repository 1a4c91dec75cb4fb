"""What a start had to do before the index could serve: logged, and part of the statistics."""

from dataclasses import dataclass, field
from typing import Any, Literal

from gpuctl_serving.kit.logs import Log

log = Log("gpuctl_serving.index.recovery")

Did = Literal["nothing", "created", "adopted", "replayed", "continued", "rebuilt", "followed"]


@dataclass
class Report:
    """Filled while the directory is opened; the last thing done decides `did`."""

    did: Did = "nothing"
    replayed: int = 0
    rebuilt_from: str = ""
    moved_aside: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    #: The log does not reach back to the beginning or to a snapshot: one should be made soon.
    wants_snapshot: bool = False
    #: The database is too large to be read row by row before it serves; that is done beside it.
    wants_verify: bool = False

    def say(self, event: str, sentence: str, **fields: Any) -> None:
        """Something a person should know: in the log now, in the statistics from now on."""
        self.said.append(sentence)
        log.warning(event, detail=sentence, **fields)

    def body(self) -> dict[str, Any]:
        """As the statistics show it."""
        return {
            "did": self.did,
            "replayed": self.replayed,
            "rebuiltFrom": self.rebuilt_from,
            "movedAside": self.moved_aside,
            "said": self.said,
        }
