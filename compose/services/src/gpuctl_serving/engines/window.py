"""Which rows make the next batch: near in length, fair between jobs, within the padded-token budget."""

from collections.abc import Sequence

from gpuctl_serving.engines.rows import Job, Row

#: Rows are gathered from all jobs up to this many budgets before choosing.
WINDOW_BUDGETS = 4
#: Padding may add this share to a batch, or what one more batch would cost: see `choose`.
MOST_WASTE = 1.06
#: Tokens that one more batch costs at least, in the time of a slow CPU.
LEAST_FREE = 16


def choose(jobs: Sequence[Job], budget: int, *, free: int = LEAST_FREE, sort: bool = True) -> list[Row]:
    """The next batch. It always holds the longest row of the first job: nobody waits for ever.

    `free` tokens of padding are less than the fixed cost of another batch on this engine.
    """
    if not sort:
        return _as_they_came(jobs, budget)
    anchor = jobs[0].pending[0]
    candidates = sorted(_gather(jobs, budget * WINDOW_BUDGETS), key=len, reverse=True)
    return _around(candidates, candidates.index(anchor), budget, free)


def _as_they_came(jobs: Sequence[Job], budget: int) -> list[Row]:
    """For comparison: what a service without sorting does."""
    batch: list[Row] = []
    width = 0
    for row in (row for job in jobs for row in job.pending):
        width = max(width, len(row))
        if batch and width * (len(batch) + 1) > budget:
            break
        batch.append(row)
    return batch


def _gather(jobs: Sequence[Job], tokens: int) -> list[Row]:
    """One row from each job in turn, so that a large job cannot fill the window alone."""
    found: list[Row] = []
    depth, left, open_jobs = 0, tokens, list(jobs)
    while open_jobs and left > 0:
        for job in open_jobs:
            found.append(job.pending[depth])
            left -= len(job.pending[depth])
            if left <= 0:
                break
        depth += 1
        open_jobs = [job for job in open_jobs if len(job.pending) > depth]
    return found


def _around(rows: Sequence[Row], anchor: int, budget: int, free: int) -> list[Row]:
    """Grows a slice of the length-sorted rows around the anchor, always by the neighbour that pads less."""
    first, last, real = anchor, anchor, len(rows[anchor])
    while True:
        options = []
        if last + 1 < len(rows):
            options.append((len(rows[first]), len(rows[last + 1]), first, last + 1))
        if first > 0:
            options.append((len(rows[first - 1]), len(rows[first - 1]), first - 1, last))
        best = None
        for width, added, low, high in options:
            padded = width * (high - low + 1)
            waste = padded / (real + added)
            fits = padded <= budget and (waste <= MOST_WASTE or padded - real - added <= free)
            if fits and (best is None or waste < best[0]):
                best = (waste, added, low, high)
        if best is None:
            return list(rows[first : last + 1])
        _, added, first, last = best
        real += added
