"""The one change of what serves: a rename, and the rename that takes it back.

What is about to be renamed is written down before; a run that finds it written down looks at the index to see
whether it was done. So a death between the rename and its record neither repeats it nor loses sight of it.
"""

from typing import Any

from gpuctl_serving.migration import peers
from gpuctl_serving.migration.journal import Journal
from gpuctl_serving.migration.problems import MigrationProblem
from gpuctl_serving.migration.spec import Spec


def switch(spec: Spec, journal: Journal, staging: str, short: str) -> dict[str, Any]:
    """Puts what was loaded in service, and keeps what served before under a name of its own."""
    intent: dict[str, Any] | None = journal.noted("switch")
    counts = _counts(spec)
    if intent is None or counts.get(staging):
        before = counts.get(spec.namespace, 0)
        kept = _free(f"{spec.namespace}~before-{short}", counts) if before else None
        intent = {"namespace": spec.namespace, "kept": kept, "itemsBefore": before}
        journal.note("switch", intent)
        _rename(spec, staging, kept)
    elif not counts.get(intent["kept"] or spec.namespace):
        journal.forget("load", "verify")
        journal.note("switch", None)
        raise MigrationProblem(
            "what was loaded is not in the index any more",
            "the index was restored, or its items were deleted, before the switch",
            "run it again: it loads them anew",
        )
    return intent


def undo(spec: Spec, journal: Journal) -> dict[str, Any]:
    """Puts back what was served before; what was migrated, and written to it since, is kept beside it."""
    switched = journal.result("switch") or journal.noted("switch")
    if switched is None or journal.namespace != spec.namespace:
        raise MigrationProblem(
            "there is nothing to undo",
            f"no migration into {spec.namespace} with {spec.backup_dir} has switched, or it was undone",
            "gpuctl index stats; with a --backup-dir of its own, name it here too",
        )
    counts, kept = _counts(spec), switched["kept"]
    intent: dict[str, Any] | None = journal.noted("undo")
    if intent is None or (kept and counts.get(kept)):
        intent = {
            "namespace": spec.namespace,
            "kept": _free(f"{spec.namespace}~undone", counts),
            "items": counts.get(kept, 0) if kept else 0,
            "itemsKept": counts.get(spec.namespace, 0),
        }
        journal.note("undo", intent)
        if kept:
            _rename(spec, kept, intent["kept"])
        else:
            # Nothing was there before, so nothing is there again.
            _call_rename(spec, spec.namespace, intent["kept"], None)
    elif not counts.get(intent["kept"]):
        if kept is None and counts.get(spec.namespace):
            _call_rename(spec, spec.namespace, intent["kept"], None)
        else:
            raise MigrationProblem(
                "what was served before is not in the index any more",
                f"{kept or spec.namespace} has no items: the index was restored, or they were deleted",
                "gpuctl index stats",
            )
    journal.note("switch", None)
    journal.note("undo", None)
    # What was loaded is kept under another name: the same migration would load it again.
    journal.forget("load", "verify", "switch")
    return intent


def _counts(spec: Spec) -> dict[str, int]:
    found: dict[str, int] = peers.stats(spec.index)["namespaces"]
    return found


def _free(name: str, counts: dict[str, int]) -> str:
    """The name, or with a number the first one that has no items."""
    number, free = 1, name
    while counts.get(free):
        number += 1
        free = f"{name}-{number}"
    return free


def _rename(spec: Spec, source: str, keep: str | None) -> None:
    _call_rename(spec, source, spec.namespace, keep)


def _call_rename(spec: Spec, source: str, target: str, keep: str | None) -> None:
    body = {"from": source, "to": target, "keep": keep}
    peers.call(spec.index, "index", "POST", f"{peers.BASE}/namespaces/rename", body)
