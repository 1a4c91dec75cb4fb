"""`python -m gpuctl_serving.migration`: a Spec as JSON on stdin, JSON lines out, exit 1 on a problem."""

import signal
import sys
from pathlib import Path
from typing import Any

from gpuctl_serving.migration.check import check
from gpuctl_serving.migration.journal import Journal
from gpuctl_serving.migration.material import Material
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.spec import Spec, parse_spec
from gpuctl_serving.migration.steps import Migration
from gpuctl_serving.migration.switch import undo
from gpuctl_serving.models.progress import Progress


def main() -> int:
    """Runs one migration; returns its exit status."""
    progress = Progress()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = _run(parse_spec(sys.stdin.buffer.read()), progress)
    except MigrationProblem as problem:
        progress.emit(_error(problem.message, problem.because, problem.next_step))
        return 1
    except (RuntimeError, AssertionError, MemoryError) as failure:
        # FAISS says so when a file passes for an index and its content does not hold together.
        said = str(failure).strip()[:300] or type(failure).__name__
        progress.emit(_error("the FAISS file cannot be used", said, "give a file that is whole"))
        return 1
    except KeyboardInterrupt:
        progress.emit(_error("interrupted", "what is done is written down", "run it again to go on"))
        return 1
    progress.emit({"event": "result", **result})
    return 0


def _run(spec: Spec, progress: Progress) -> dict[str, Any]:
    if spec.action == "undo":
        # From the journal alone: the old file may be gone, and nothing of it is needed.
        return {"undo": undo(spec, Journal(Path(spec.backup_dir), None))}
    material = Material(spec)
    if spec.action == "check":
        return {"check": check(material)}
    # Looked at before anything is made, so that a refusal leaves nothing behind.
    checked = check(material)
    return {"check": checked, **Migration(material, progress).run()}


def _error(message: str, because: str, next_step: str) -> dict[str, Any]:
    return {"event": "error", "message": message, "because": because, "next": next_step}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
