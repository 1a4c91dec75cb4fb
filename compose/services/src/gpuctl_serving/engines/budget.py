"""How many padded tokens a batch may have: from the memory that was measured, before it runs out.

supervisor and batch_budget.py shrink and regrow what is decided here when memory runs out all the same.
"""

from gpuctl_serving.engines.protocol import EngineFacts, EngineSpec

GIB = 1 << 30
MIB = 1 << 20

#: Texts in a batch by the memory of the card: the table people start from.
_TEXTS_BY_MEMORY = ((24 * GIB, 256), (16 * GIB, 128), (8 * GIB, 64), (0, 32))
#: A card's memory is sold rounded up: a "16 GB" T4 has 14.6 GiB.
_SOLD_AS = 0.88
#: Tokens the table's texts are taken to have.
_TOKENS_A_TEXT = 256
#: Share of what is free after loading that one batch may take: kernels need workspace, memory fragments.
_GPU_SHARE = 0.6
_CPU_SHARE = 0.125
#: What a token takes on the CPU in a model 1024 wide: activations, and its share of the attention scores.
_CPU_TOKEN_BYTES = 64 * 1024
#: On a CPU larger batches are no faster: some more a core is enough to keep it busy.
_TOKENS_A_CORE = 4096
_CPU_MOST = 16_384
LEAST = 512


def before_loading(spec: EngineSpec, available: int | None) -> int:
    """Where nothing is measured yet. On a CPU this is final: its memory is known before."""
    if spec.device != "cpu":
        return _TEXTS_BY_MEMORY[-1][1] * _TOKENS_A_TEXT
    by_cores = min(_CPU_MOST, spec.threads * _TOKENS_A_CORE)
    by_memory = by_cores if available is None else int(available * _CPU_SHARE) // _CPU_TOKEN_BYTES
    return max(LEAST, min(by_cores, by_memory))


def after_loading(before: int, facts: EngineFacts) -> int:
    """With what the loaded engine measured on its device."""
    if facts.total_bytes == 0:
        return before
    by_table = texts_for(facts.total_bytes) * _TOKENS_A_TEXT
    if facts.token_bytes == 0:
        return by_table
    return max(LEAST, min(by_table, int(facts.free_bytes * _GPU_SHARE) // facts.token_bytes))


def texts_for(total_bytes: int) -> int:
    """Texts in a batch on a card of this size."""
    return next(texts for least, texts in _TEXTS_BY_MEMORY if total_bytes >= least * _SOLD_AS)
