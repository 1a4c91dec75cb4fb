"""Which index type a namespace should have: by size, by setting, within what a GPU can search. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["Flat", "IVFFlat", "IVFPQ"]
Wish = Literal["auto", "Flat", "IVFFlat", "IVFPQ"]

#: From so many vectors on, Flat's scan of everything costs more than it is worth.
IVF_FROM = 10_000
#: From so many on, vectors of four bytes a dimension cost more memory than they are worth.
PQ_FROM = 100_000
#: FAISS calls a k-means with fewer points a centroid too poor to use.
POINTS_PER_CENTROID = 39
PQ_CENTROIDS = 256
#: Vectors kept out of training where they can be spared: their neighbours measure the recall.
HELD_OUT = 200
SMALLEST_NLIST = 8
LARGEST_NLIST = 16_384
#: Retrain when the right number of lists has become so many times what it is.
_GROWTH = 4

# What FAISS's GPU indexes take (gpu/impl/IVFPQ.cu, gpu/utils/DeviceDefs.cuh).
GPU_MAX_K = 2048
GPU_MAX_NPROBE = 2048
GPU_CODE_SIZES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
GPU_SUB_DIMENSIONS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
#: Look-up tables of larger codes fit a GPU's 48 KiB of shared memory in float16 only.
GPU_FLOAT16_FROM = 56
_SHARED_BYTES = 48 * 1024


class TooFew(Exception):
    """There is not enough to train with; the numbers are in the message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One index type with its parameters."""

    kind: Kind
    nlist: int = 0
    #: Bytes of a product-quantised vector.
    m: int = 0

    @property
    def needs(self) -> int:
        """Vectors to train with, at least."""
        lists = POINTS_PER_CENTROID * self.nlist
        return max(lists, POINTS_PER_CENTROID * PQ_CENTROIDS) if self.kind == "IVFPQ" else lists

    @property
    def float16_tables(self) -> bool:
        """Whether a GPU has to keep its look-up tables in float16."""
        return self.m >= GPU_FLOAT16_FROM


FLAT = Plan("Flat")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say; 0 lets the size decide."""

    wish: Wish = "auto"
    nlist: int = 0
    m: int = 0


def wanted(policy: Policy, count: int, dimension: int) -> Plan:
    """The type for so many vectors. Its `needs` may be more than there are: see `shortage`."""
    kind: Kind
    if policy.wish != "auto":
        kind = policy.wish
    else:
        kind = "Flat" if count < IVF_FROM else "IVFFlat" if count < PQ_FROM else "IVFPQ"
    if kind == "Flat":
        return FLAT
    m = policy.m or best_code_size(dimension)
    if kind == "IVFPQ" and m == 0:
        # No code size of a GPU divides this dimension: exact lists instead.
        kind = "IVFFlat"
    nlist = policy.nlist or lists_for(count)
    return Plan(kind, nlist, m if kind == "IVFPQ" else 0)


def lists_for(count: int) -> int:
    """A power of two near 4 sqrt(count), with enough vectors to train and measure it: 128 at 10,000."""
    trainable = (count - HELD_OUT) / POINTS_PER_CENTROID
    most = min(4 * math.sqrt(max(count, 1)), trainable, LARGEST_NLIST)
    return max(SMALLEST_NLIST, 1 << int(math.log2(max(most, 1))))


def best_code_size(dimension: int) -> int:
    """The largest code a GPU takes for this dimension, of eight dimensions a byte where possible."""
    possible = [m for m in GPU_CODE_SIZES if not gpu_problems(Plan("IVFPQ", SMALLEST_NLIST, m), dimension)]
    return max((m for m in possible if dimension // m >= 8), default=max(possible, default=0))


def gpu_problems(plan: Plan, dimension: int) -> list[str]:
    """Why an index of this plan could never move to a GPU; empty when it can. Checked on CPU hosts too."""
    found = []
    if plan.nlist > LARGEST_NLIST:
        found.append(f"nlist is {plan.nlist}; at most {LARGEST_NLIST} are allowed")
    if plan.kind != "IVFPQ":
        return found
    if plan.m not in GPU_CODE_SIZES:
        sizes = ", ".join(map(str, GPU_CODE_SIZES))
        found.append(f"M is {plan.m}; a GPU takes {sizes}")
        return found
    if dimension % plan.m:
        found.append(f"{dimension} dimensions cannot be cut into M={plan.m} equal parts")
    elif dimension // plan.m not in GPU_SUB_DIMENSIONS:
        parts = ", ".join(map(str, GPU_SUB_DIMENSIONS))
        found.append(
            f"M={plan.m} makes parts of {dimension // plan.m} dimensions; a GPU takes parts of {parts}"
        )
    table = plan.m * PQ_CENTROIDS * (2 if plan.float16_tables else 4)
    if table > _SHARED_BYTES:
        found.append(
            f"M={plan.m} needs a look-up table of {table} bytes; a GPU's shared memory has {_SHARED_BYTES}"
        )
    return found


def shortage(plan: Plan, count: int) -> str | None:
    """The refusal to train with so few, with its numbers; None when there are enough."""
    if count >= plan.needs:
        return None
    because = f"{POINTS_PER_CENTROID} for each of {plan.nlist} lists"
    if plan.kind == "IVFPQ":
        because += f" and for each of {PQ_CENTROIDS} codes"
    return f"{plan.kind} needs {plan.needs} vectors to train ({because}); there are {count}"


def rebuild(policy: Policy, now: Plan, count: int, dimension: int) -> Plan | None:
    """What the index should be rebuilt as; None when it is right, or when there is too little to train."""
    want = wanted(policy, count, dimension)
    if want.kind == now.kind:
        if policy.nlist or want.nlist < _GROWTH * now.nlist or want.kind == "Flat":
            return None
    elif _order(want.kind) < _order(now.kind) <= _order(wanted(policy, 2 * count, dimension).kind):
        # Growing and shrinking around a threshold must not rebuild every time: only well below it.
        return None
    return None if shortage(want, count) else want


def _order(kind: Kind) -> int:
    return ("Flat", "IVFFlat", "IVFPQ").index(kind)
