"""`python -m gpuctl_serving.index.tool`: work on an index directory while no instance uses it.

One JSON document on stdout; progress and findings as JSON lines on stderr. Exit 0: done, 1: refused or
something is wrong, 2: usage.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from gpuctl_serving.index import upkeep
from gpuctl_serving.index.durable import retention, snapshot
from gpuctl_serving.index.durable.log import Policy
from gpuctl_serving.index.durable.opening import open_writer
from gpuctl_serving.index.durable.rebuild import rebuild
from gpuctl_serving.index.durable.recovery import Place
from gpuctl_serving.index.durable.report import Report
from gpuctl_serving.index.durable.restore import RestoreRefused, check_not_restoring, restore
from gpuctl_serving.index.durable.snapshot import SnapshotFailed, Source
from gpuctl_serving.index.lock import Holder, WriterLock
from gpuctl_serving.kit.errors import LoadFailed

_LOOK = 0.5


class InUse(Exception):
    """An instance holds the writer's lock."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; its exit status."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    options = _options().parse_args(arguments)
    directory: Path = options.index_dir
    try:
        if not directory.is_dir() and options.command != "restore":
            raise LoadFailed(
                f"{directory} is not a directory. Name the index's directory (GPUCTL_INDEX_DIR)."
            )
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        result = _locked(directory, lambda: _COMMANDS[options.command](options))
    except (InUse, LoadFailed, RestoreRefused, SnapshotFailed) as refused:
        _out({"ok": False, "error": str(refused)})
        return 1
    _out({"ok": True, **result})
    return 0 if result.get("ok", True) else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpuctl_serving.index.tool", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "verify": "read everything and compare; changes nothing",
        "recover": "what a start would do: cut, replay, rebuild",
        "rebuild": "make the database again from a snapshot and the log",
        "restore": "replace the index by a backup",
        "backup": "copy the index into a directory",
    }
    made = {name: commands.add_parser(name, help=text) for name, text in helps.items()}
    for one in made.values():
        one.add_argument("--index-dir", type=Path, required=True)
    made["rebuild"].add_argument("--accept-loss", action="store_true", help="give up what cannot be read")
    made["restore"].add_argument(
        "--from", dest="backup", type=Path, required=True, help="directory, .tar, or -"
    )
    made["restore"].add_argument("--generation", default="", help="generation key the index will serve")
    made["restore"].add_argument("--other-model", action="store_true", help="take another model's vectors")
    made["backup"].add_argument("--to", type=Path, required=True)
    return parser


def _locked(directory: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    lock = WriterLock(directory, Holder(f"tool-{os.getpid()}", os.getpid()))
    try:
        if not lock.try_take():
            holder = lock.holder()
            who = f" ({holder.instance}, pid {holder.pid})" if holder else ""
            raise InUse(
                f"{directory} is in use{who}. Wait for a tool, stop an instance, or ask it: "
                "`gpuctl index verify` and `gpuctl index backup` work while it runs."
            )
        return run()
    finally:
        lock.close()


def _verify(options: argparse.Namespace) -> dict[str, Any]:
    check_not_restoring(options.index_dir)
    findings: list[str] = []
    rows = upkeep.verify_database(options.index_dir, findings)
    findings += retention.verify(options.index_dir)
    return {"ok": not findings, "findings": findings, **rows}


def _recover(options: argparse.Namespace) -> dict[str, Any]:
    place = Place(options.index_dir, Policy(), Report())
    opened = open_writer(place)
    if opened.journal is not None:
        opened.journal.close()
    opened.connection.close()
    return {"recovery": place.report.body()}


def _rebuild(options: argparse.Namespace) -> dict[str, Any]:
    check_not_restoring(options.index_dir)
    place = Place(options.index_dir, Policy(), Report(), accept_loss=options.accept_loss)
    rebuild(place, "asked for by hand")
    return {"recovery": place.report.body()}


def _restore(options: argparse.Namespace) -> dict[str, Any]:
    place = Place(options.index_dir, Policy(), Report())
    made = restore(place, options.backup, generation=options.generation, other_model=options.other_model)
    return {
        "sequence": made.sequence,
        "items": made.items,
        "generations": [one.key for one in made.generations],
        "movedAside": place.report.moved_aside,
    }


def _backup(options: argparse.Namespace) -> dict[str, Any]:
    _recover(options)
    source = Source(options.index_dir, None, lambda: None)
    return upkeep.backup(source, options.to.absolute(), _progress())


_COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "verify": _verify,
    "recover": _recover,
    "rebuild": _rebuild,
    "restore": _restore,
    "backup": _backup,
}


def _progress() -> snapshot.Progress:
    told = 0.0

    def tell(phase: str, done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _LOOK:
            told = time.monotonic()
            sys.stderr.write(orjson.dumps({"phase": phase, "done": done, "of": of}).decode() + "\n")

    return tell


def _out(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document, default=str).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
