"""Cutting a safetensors file into shards, as large models come."""

import json
import struct
from typing import Any

WHOLE = "model.safetensors"


def cut_into_shards(files: dict[str, bytes], count: int) -> None:
    """Replaces model.safetensors in `files` by `count` shards and their index."""
    content = files.pop(WHOLE)
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    names = sorted(header)
    weight_map: dict[str, str] = {}
    for number in range(count):
        shard = f"model-{number + 1:05}-of-{count:05}.safetensors"
        mine = names[number::count]
        weight_map |= dict.fromkeys(mine, shard)
        files[shard] = _file({name: header[name] for name in mine}, data)
    files[f"{WHOLE}.index.json"] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()


def _file(entries: dict[str, dict[str, Any]], data: bytes) -> bytes:
    header: dict[str, Any] = {}
    body = b""
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        header[name] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
        body += data[begin:end]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
