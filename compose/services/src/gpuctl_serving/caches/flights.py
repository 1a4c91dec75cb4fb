"""Inputs that are being worked on: whoever asks for one of them meanwhile waits and computes nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuctl_serving.caches.entry import Entry
from gpuctl_serving.engines.protocol import EngineSpec


@dataclass(frozen=True, slots=True)
class Landed:
    """An answer, and the engine that computed it, now or then."""

    entry: Entry
    engine: EngineSpec


#: None: whoever worked on it has left or was refused, which says nothing about anybody else.
Outcome = Landed | Exception | None


class Flights:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._flying: dict[bytes, asyncio.Future[Outcome]] = {}

    def board(self, keys: Sequence[bytes]) -> tuple[list[bytes], "dict[bytes, asyncio.Future[Outcome]]"]:
        """Divides different keys into those the caller has to work on from now, and those others work on."""
        mine: list[bytes] = []
        others = {}
        for key in keys:
            flight = self._flying.get(key)
            if flight is None:
                self._flying[key] = asyncio.get_running_loop().create_future()
                mine.append(key)
            else:
                others[key] = flight
        return mine, others

    def land(self, key: bytes, landed: Landed) -> None:
        """An answer is there: for everyone who waits for it."""
        self._settle(key, landed)

    def end(self, keys: Sequence[bytes], failure: Exception | None) -> None:
        """Ends what has not landed: with a failure for everyone, or (None) for somebody else to take over."""
        for key in keys:
            self._settle(key, failure)

    async def wait(
        self, flights: "Mapping[bytes, asyncio.Future[Outcome]]", deadline: float
    ) -> dict[bytes, Landed]:
        """What landed, once all of these ended. Raises the failure of one of them, and TimeoutError."""
        async with asyncio.timeout_at(deadline):
            # Unlike awaiting a future, this can be cancelled without cancelling it for the others.
            await asyncio.wait(flights.values())
        outcomes = {key: flight.result() for key, flight in flights.items()}
        for outcome in outcomes.values():
            if isinstance(outcome, Exception):
                raise outcome
        return {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Landed)}

    def _settle(self, key: bytes, outcome: Outcome) -> None:
        flight = self._flying.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(outcome)
