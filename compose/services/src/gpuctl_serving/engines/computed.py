"""What computing the texts of one request gave."""

from dataclasses import dataclass

from gpuctl_serving.engines.protocol import Device, Rows


@dataclass(frozen=True)
class Computed:
    """Answers of one request, with what they cost and where they were computed."""

    rows: Rows
    #: Of all texts; `computed_tokens` without those that already ran for somebody else.
    tokens: int
    computed_tokens: int
    truncated: int
    #: Stage -> milliseconds.
    timings: dict[str, float]
    device: Device
