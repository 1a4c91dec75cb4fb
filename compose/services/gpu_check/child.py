"""Running an errand of raw.py in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
#: A batch that never ends must not keep the check for ever.
_LIMIT_SECONDS = 900


class ErrandFailed(Exception):
    """A child ended without an answer; the message holds its last words."""


def environment() -> dict[str, str]:
    """What our Python processes find their code with."""
    paths = [str(HERE / "src"), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
    return {**own, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


def run(errand: str, **arguments: Any) -> dict[str, Any]:
    """Its answer. Raises ErrandFailed."""
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "gpu_check.raw", errand],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ErrandFailed(f"{errand} took longer than {_LIMIT_SECONDS} s") from None
    if ended.returncode != 0:
        words = ended.stderr.strip().splitlines()[-3:] or [f"status {ended.returncode}"]
        raise ErrandFailed(f"{errand} ended: " + " | ".join(words))
    answer: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return answer
