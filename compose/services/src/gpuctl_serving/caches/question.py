"""What a request asks of the model, and what it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from gpuctl_serving.caches.keys import Parts
from gpuctl_serving.engines.protocol import Device, Rows, Tokens
from gpuctl_serving.kit.errors import ServiceError, invalid
from gpuctl_serving.models.tokenizer import Direction, ModelTokenizer


@dataclass(frozen=True)
class Question:
    """Wants a row for each of its inputs."""

    #: `(text,)`, or `(query, document)` with one query for all; prefixes included.
    inputs: Sequence[Parts]
    direction: Direction
    #: False refuses what does not fit, instead of cutting it.
    truncate: bool
    #: Computed whatever is known, and not kept: gates, soaks and benchmarks measure the engine.
    fresh: bool = False

    def characters(self, positions: Sequence[int]) -> list[int]:
        """Length of each of these inputs, for admission before they are tokenised."""
        return [sum(map(len, self.inputs[position])) for position in positions]

    @property
    def size(self) -> int:
        """Characters of all inputs."""
        return sum(len(part) for parts in self.inputs for part in parts)

    def tokenizing(
        self, tokenizer: ModelTokenizer, positions: Sequence[int], into: list[Tokens]
    ) -> Callable[[], list[Tokens]]:
        """An errand for another thread: tokenises these inputs and leaves the tokens in `into` too."""

        def run() -> list[Tokens]:
            chosen = [self.inputs[position] for position in positions]
            if len(chosen[0]) == 1:
                into.extend(tokenizer.texts([text for (text,) in chosen], self.direction))
            else:
                into.extend(tokenizer.pairs(chosen[0][0], [text for _, text in chosen], self.direction))
            if not self.truncate:
                for position, tokens in zip(positions, into, strict=True):
                    if tokens.truncated:
                        raise too_long(position, tokenizer.max_tokens)
            return into

        return run


@dataclass(frozen=True)
class Answer:
    """The engine's raw rows, one for each input, and what they cost."""

    rows: Rows
    #: Tokens of every input, as a client counts them.
    tokens: int
    #: Tokens the engine worked on for this request.
    computed_tokens: int
    truncated: int
    #: Of its inputs, prompts included.
    characters: int
    #: Inputs that a cache knew.
    hits: int
    #: Of the engine that computed it, now or then.
    device: Device
    #: Stage -> milliseconds.
    timings: dict[str, float]


def too_long(position: int, limit: int) -> ServiceError:
    """422: an input does not fit and must not be cut."""
    return invalid(
        f"Input {position} is longer than {limit} tokens and `truncate` is false. "
        "Shorten it, or send `truncate: true`."
    )


def wants_fresh(request: Request) -> bool:
    """Whether a request must reach the engine: it says so, or it came through the private socket."""
    wish = request.headers.get("cache-control", "").lower()
    return bool(request.scope.get("gpuctl.private")) or "no-store" in wish or "no-cache" in wish
