"""Building a generation beside the one that serves, piece by piece, and dropping the ones nobody keeps."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from gpuctl_serving.index.core import Core
from gpuctl_serving.index.embedder import BATCH, embed
from gpuctl_serving.index.reader import Missing
from gpuctl_serving.index.requests import Ensure
from gpuctl_serving.index.store import Generation, Store
from gpuctl_serving.index.vectors import Vectors
from gpuctl_serving.kit.errors import ServiceError, invalid
from gpuctl_serving.kit.logs import Log

log = Log(__name__)

#: Work of one call of `ensure`, seconds.
CALL_SECONDS = 2.0
_EMBED_SECONDS = 30.0
_SWEEP = 5000


class Generations:
    """`ensure` and `prune`. Everything stored is committed batch by batch, so both go on where they ended."""

    def __init__(self, core: Core) -> None:
        self._core = core
        #: (generation, item, sequence) of texts the embedder refused: trying again would not help.
        self._refused: set[tuple[int, int, int]] = set()

    async def ensure(
        self, want: Ensure, seconds: float = CALL_SECONDS, *, internal: bool = False
    ) -> dict[str, int]:
        """Embeds what the generation lacks for about so long; what is left, done, and impossible."""
        if not want.key or not 1 <= want.dimension <= 65_536:
            raise invalid("ensure needs the generation's key and its dimension.", "key")
        until = time.monotonic() + seconds
        generation = await self._make(want, until, internal)
        embedded, after = 0, 0
        while batch := await self._core.read(partial(self._missing, generation.gen, after)):
            after = batch[-1].item
            todo = [one for one in batch if (generation.gen, one.item, one.sequence) not in self._refused]
            if todo:
                embedded += await self._embed(want, generation, todo, internal, until)
            if time.monotonic() > until:
                break
        missing, unembeddable = await self._core.read(lambda: self._lacking(generation.gen))
        return {"missing": missing, "embedded": embedded, "unembeddable": unembeddable}

    async def prune(self, keep: Sequence[str]) -> dict[str, Any]:
        """Drops every generation that is not named. 422 when that would drop the one that serves."""
        own = self._core.live.key
        if own and own not in keep:
            raise invalid(f"keep does not name {own!r}, the generation this index serves. Add it.", "keep")
        pruned = await self._core.write_here(lambda store: store.prune(keep), time.monotonic() + 30)
        while await self._core.write_here(_sweep, time.monotonic() + 30):
            pass
        if pruned:
            log.info("generations-pruned", keys=pruned)
        return {"pruned": pruned, "kept": [key for key in keep if key not in pruned]}

    async def _make(self, want: Ensure, until: float, internal: bool) -> Generation:
        def make(store: Store) -> Generation:
            return store.ensure_generation(want.key, want.dimension)

        made = await self._core.write_here(make, until, internal=internal)
        assert isinstance(made, Generation)  # noqa: S101  what `make` returns
        return made

    async def _embed(
        self, want: Ensure, generation: Generation, todo: Sequence[Missing], internal: bool, until: float
    ) -> int:
        vectors = await self._vectors(want, generation, todo)
        made = [
            (one.item, one.sequence, vector)
            for one, vector in zip(todo, vectors, strict=True)
            if vector is not None
        ]
        stored = await self._core.write_here(
            lambda store: store.embed(generation, made), until, internal=internal
        )
        return int(stored)

    async def _vectors(
        self, want: Ensure, generation: Generation, todo: Sequence[Missing]
    ) -> list[Vectors | None]:
        try:
            space = (want.key, generation.dimension)
            found = await embed(want.embedder, [one.text for one in todo], space, _EMBED_SECONDS)
        except ServiceError as refused:
            if refused.status >= 429:
                raise
            if len(todo) > 1:
                return [vector for one in todo for vector in await self._vectors(want, generation, [one])]
            log.warning("text-refused", item=todo[0].item, reason=refused.message)
            self._refused.add((generation.gen, todo[0].item, todo[0].sequence))
            return [None]
        return list(found)

    def _missing(self, gen: int, after: int) -> list[Missing]:
        with self._core.readers.snapshot() as snapshot:
            return snapshot.missing(gen, after, BATCH)

    def _lacking(self, gen: int) -> tuple[int, int]:
        with self._core.readers.snapshot() as snapshot:
            missing, textless = snapshot.lacking(gen)
            still = [refused for refused in self._refused if refused[0] == gen]
            now = snapshot.documents([item for _, item, _ in still])
            dead = sum(1 for _, item, sequence in still if item in now and now[item].sequence == sequence)
            return missing - dead, textless + dead


def _sweep(store: Store) -> int:
    return store.sweep(_SWEEP)
