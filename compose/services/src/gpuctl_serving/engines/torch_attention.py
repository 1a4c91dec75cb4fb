"""Attention over texts of different lengths: unpadded where PyTorch and the card can, else in rectangles.

Which one is right on this card is not guessed from version numbers: each is tried at load against plain
attention in float32, and the first that agrees is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from gpuctl_serving.engines import ragged
from gpuctl_serving.engines.protocol import EngineBroken, Ids

#: Tensors have no types here: PyTorch is not installed where types are checked.
Tensor = Any
#: Largest difference to plain attention, as a share of the largest value, that is rounding.
_ROUNDING = {torch.float32: 1e-4, torch.float16: 1e-2}
#: Lengths of the trial: one token, odd ones, more than one tile of any kernel.
_TRIAL = (1, 5, 17, 64, 130)


@dataclass(frozen=True)
class Layout:
    """Where the texts of a batch are, on the device."""

    #: Begin of each text and the end of the last, int32.
    bounds: Tensor
    longest: int
    #: (index, mask or None) of each rectangle; made only for attention that pads.
    parts: Sequence[tuple[Tensor, Tensor | None]]
    #: For every token its cell among all rectangles' cells.
    back: Tensor | None


#: (tokens, 3, heads, width of a head) to (tokens, heads, width of a head).
Attend = Callable[[Tensor, Layout], Tensor]


@dataclass(frozen=True)
class Attention:
    """A way to compute it."""

    name: str
    attend: Attend
    pads: bool

    def layout(self, lengths: Ids, device: Any) -> Layout:
        """What `attend` needs to know of a batch."""
        bounds = torch.from_numpy(ragged.starts_of(lengths).astype("int32")).to(device)
        longest = int(lengths.max())
        if not self.pads:
            return Layout(bounds, longest, (), None)
        found = ragged.rectangles(lengths)
        parts = [
            (
                torch.from_numpy(part.index).to(device),
                None if part.mask is None else torch.from_numpy(part.mask[:, None, None, :]).to(device),
            )
            for part in found
        ]
        return Layout(bounds, longest, parts, torch.from_numpy(ragged.back_to_flat(found)).to(device))


def _padded(qkv: Tensor, layout: Layout) -> Tensor:
    """Scaled dot product attention, one rectangle after another."""
    cells = []
    for index, mask in layout.parts:
        query, key, value = qkv[index].permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        cells.append(context.transpose(1, 2).flatten(0, 1))
    return torch.cat(cells)[layout.back]


def _varlen(qkv: Tensor, layout: Layout) -> Tensor:
    """Flash attention over the flat tokens: cards from sm_80 on, half precision."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (part.contiguous() for part in qkv.unbind(1))
    return varlen_attn(query, key, value, layout.bounds, layout.bounds, layout.longest, layout.longest)


def _memory_efficient(qkv: Tensor, layout: Layout) -> Tensor:
    """The memory-efficient kernel over the flat tokens: also for cards without flash attention (sm_75)."""
    query, key, value = (part.contiguous().unsqueeze(0) for part in qkv.unbind(1))
    answer = torch.ops.aten._efficient_attention_forward(
        query, key, value, None, layout.bounds, layout.bounds, layout.longest, layout.longest, 0.0, 0, False
    )
    return answer[0].squeeze(0)


PADDED = Attention("sdpa", _padded, pads=True)
VARLEN = Attention("varlen", _varlen, pads=False)
MEMORY_EFFICIENT = Attention("memory-efficient-varlen", _memory_efficient, pads=False)


def choose_attention(
    device: Any, dtype: Any, *, heads: int, width: int, candidates: Sequence[Attention] | None = None
) -> Attention:
    """The first of the candidates that runs here and agrees with plain attention."""
    if candidates is None:
        candidates = (VARLEN, MEMORY_EFFICIENT, PADDED) if device.type == "cuda" else (PADDED,)
    lengths = np.array(_TRIAL, np.int32)
    seed = torch.Generator().manual_seed(7)
    qkv = torch.randn((sum(_TRIAL), 3, heads, width), generator=seed).to(device, dtype)
    wanted = _plain(qkv.float(), _TRIAL)
    said = []
    for candidate in candidates:
        try:
            got = candidate.attend(qkv, candidate.layout(lengths, device)).float()
        # A kernel that this build or card lacks says so in its own way: ImportError, NotImplementedError,
        # RuntimeError, TypeError after a change of signature.
        except Exception as failure:
            said.append(f"{candidate.name}: {failure}")
            continue
        error = float((got - wanted).abs().max() / wanted.abs().max())
        if error <= _ROUNDING[dtype]:
            return candidate
        said.append(f"{candidate.name}: differs by {error:.2g} from plain attention")
    raise EngineBroken("no attention of PyTorch is right on this device: " + "; ".join(said))


def _plain(qkv: Tensor, lengths: Sequence[int]) -> Tensor:
    rows = []
    for part in qkv.split(list(lengths)):
        query, key, value = part.permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        rows.append((scores.softmax(-1) @ value).transpose(0, 1))
    return torch.cat(rows)
