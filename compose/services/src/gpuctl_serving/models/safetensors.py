"""A small reader of safetensors files: a JSON header, then raw little-endian tensors."""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuctl_serving.models.errors import ModelProblem

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BF16": "<u2"}
_MAX_HEADER = 100 * 1024 * 1024


class Shard(Mapping[str, NDArray[np.float32]]):
    """The tensors of one file by name, as float32. The file is mapped, not read at once."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ModelProblem(
                    f"{path.name} is not a safetensors file", "its header length makes no sense"
                )
            try:
                header: dict[str, Any] = json.loads(file.read(length))
            except ValueError as wrong:
                raise ModelProblem(f"{path.name} is not a safetensors file", str(wrong)) from wrong
        self._header = {name: entry for name, entry in header.items() if name != "__metadata__"}
        self._data = (
            np.memmap(path, mode="r", dtype=np.uint8, offset=8 + length) if size > 8 + length else None
        )
        end = max((entry["data_offsets"][1] for entry in self._header.values()), default=0)
        if end > size - 8 - length:
            raise ModelProblem(f"{path.name} is cut off", f"it needs {8 + length + end} bytes and has {size}")

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        entry = self._header[name]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None or self._data is None:
            raise ModelProblem(f"tensor {name} cannot be read", f"dtype {entry['dtype']} is not supported")
        begin, end = entry["data_offsets"]
        raw = self._data[begin:end].view(dtype).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(raw, dtype=np.float32)

    @property
    def float32_bytes(self) -> int:
        """What all tensors take as float32, whatever they are stored as."""
        return sum(4 * math.prod(entry["shape"]) for entry in self._header.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


class Weights(Mapping[str, NDArray[np.float32]]):
    """The tensors of a model, whether its authors ship one file or several."""

    def __init__(self, *files: Path) -> None:
        self._shards: Sequence[Shard] = [Shard(file) for file in files]
        self._by_name = {name: shard for shard in self._shards for name in shard}
        if len(self._by_name) != sum(map(len, self._shards)):
            raise ModelProblem("the weights make no sense", "a tensor is in two files")

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._by_name[name][name]

    @property
    def float32_bytes(self) -> int:
        """What all tensors take as float32, whatever they are stored as."""
        return sum(shard.float32_bytes for shard in self._shards)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)
