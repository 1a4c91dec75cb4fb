"""How many threads a call is worth: waking a second one for little work costs more than it gives."""

#: Multiplications of a call from which a second thread pays; some 4 ms of one core.
_WORTH = 20_000_000


def threads_for(products: float, most: int) -> int:
    """Threads for a call of so many multiplications."""
    return max(1, min(most, 1 + int(products / _WORTH)))
