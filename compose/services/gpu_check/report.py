"""The document that is kept: what was measured on what, with a hash over it."""

import hashlib
import json
from typing import Any

Json = dict[str, Any]
SCHEMA_VERSION = 1


def sign(document: Json) -> Json:
    """The document with `sha256` over everything else in it: whoever edits a figure breaks it."""
    body = {key: value for key, value in document.items() if key != "sha256"}
    return {**body, "sha256": _hash(body)}


def intact(document: Json) -> bool:
    """Whether the hash fits."""
    return bool(document.get("sha256") == sign(document)["sha256"])


def verdicts(sections: Json) -> list[Json]:
    """Every verdict in the sections: `{"of": "parity/minilm", "ok": true}`."""
    found: list[Json] = []
    for name, section in sections.items():
        found += _verdicts_in(name, section)
    return found


def _verdicts_in(path: str, value: Any) -> list[Json]:
    if not isinstance(value, dict):
        return []
    own = [{"of": path, "ok": bool(value["verdict"])}] if "verdict" in value else []
    if "failed_because" in value:
        own.append({"of": path, "ok": False})
    return own + [v for key, part in value.items() for v in _verdicts_in(f"{path}/{key}", part)]


def statement(device: str, quick: bool, gpus: list[Json]) -> str:
    """What the figures are worth, in a sentence nobody can overlook."""
    if device == "cpu":
        return (
            "This was NOT a GPU: PyTorch on a CPU. It proves the check, and says nothing of any card's speed."
        )
    small = " Quick mode: models so small that the figures mean nothing." if quick else ""
    return f"Measured on {gpus[0]['name'] if gpus else device}.{small}"


def _hash(body: Json) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
