"""Plays a recording of NVML through the module interface the watch uses."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

RECORDINGS = Path(__file__).parents[1] / "kit" / "nvml"


class RecordedNvml:
    """Answers every call as recorded: `{"looks": [{call: answer, ...}, ...], "events": [...]}`.

    An answer is a value, a list with one value a GPU, or `{"error": NAME}`. Each look of the watch plays the
    next entry, merged over the ones before; the last stays.
    """

    NVMLError = pynvml.NVMLError

    def __init__(self, name: str) -> None:
        recording = json.loads((RECORDINGS / f"{name}.json").read_text())
        self._looks: list[dict[str, Any]] = recording["looks"]
        self._events: list[dict[str, Any]] = recording.get("events", [])
        self._now: dict[str, Any] = {}
        self._next = 0
        #: Set by a test that wants the events to come, or the watch to look again.
        self.go = threading.Event()
        #: Cleared by a test that wants NVML to hang.
        self.answers = threading.Event()
        self.answers.set()
        self.open_sessions = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and not name.startswith("nvmlEventType"):
            return lambda *arguments: self._call(name, *arguments)
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        self._look()
        self._call("nvmlInit")
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:
        self.open_sessions -= 1

    def nvmlSystemGetDriverVersion(self) -> Any:
        """The first call of every look."""
        self.answers.wait(30)
        if self.open_sessions and self._now.get("looked"):
            self._look()
        self._now["looked"] = True
        return self._call("nvmlSystemGetDriverVersion")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._call("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlEventSetWait_v2(self, events: Any, milliseconds: int) -> Any:
        self.go.wait(milliseconds / 1000)
        self.go.clear()
        if not self._events:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        event = self._events.pop(0)
        return SimpleNamespace(device=event["gpu"], eventData=event["xid"])

    def _look(self) -> None:
        if self._next < len(self._looks):
            self._now = {**self._now, **self._looks[self._next]}
            self._next += 1

    def _call(self, name: str, *arguments: Any) -> Any:
        answer = self._now.get(name, {"error": "NOT_SUPPORTED"} if name.startswith("nvmlDeviceGet") else None)
        if isinstance(answer, list):
            answer = answer[arguments[0] if arguments else 0]
        if isinstance(answer, dict) and "error" in answer:
            raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{answer['error']}"))
        return SimpleNamespace(**answer) if isinstance(answer, dict) else answer
