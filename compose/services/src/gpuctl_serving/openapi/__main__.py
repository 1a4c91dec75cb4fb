"""`python -m gpuctl_serving.openapi DIRECTORY`: writes `<service>.json` of every service there."""

import json
import sys
from pathlib import Path

from gpuctl_serving.openapi.services import documents


def written(document: dict[str, object]) -> str:
    """The text of a document's file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, made in documents().items():
        (directory / f"{name}.json").write_text(written(made), encoding="utf-8")
