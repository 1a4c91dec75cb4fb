"""`python -m gpuctl_serving.models fetch | resolve | list | verify`: JSON lines out, exit 1 on a problem."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.hub import resolve_commit
from gpuctl_serving.models.manifest import MANIFEST, damage, read_manifest, sha256_file
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.spec import HubSpec, parse_spec
from gpuctl_serving.models.store import ModelStore, StoredModel

#: Of the hub and the way to it, as its own tools name them.
_HUB_SETTINGS = ("HF_ENDPOINT", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _looking_up_every_second():
            result = _COMMANDS[options.command](options, progress)
    except ModelProblem as problem:
        progress.emit(_error(problem.message, problem.because, problem.next_step))
        return 1
    except KeyboardInterrupt:
        progress.emit(_error("interrupted", "nothing was left in the store", "run it again"))
        return 1
    progress.emit({"event": "result", **result})
    return 0 if result.get("ok", True) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpuctl_serving.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch one model into the store")
    fetching.add_argument("--spec", required=True, help="the model's source as JSON")
    fetching.add_argument(
        "--hub-from-stdin",
        action="store_true",
        help=f"read {', '.join(_HUB_SETTINGS)} as JSON from stdin: a token is then seen by nobody",
    )
    resolving = commands.add_parser("resolve", help="print the commit that a model of the hub is at")
    resolving.add_argument("--spec", required=True, help="the model's source as JSON")
    listing = commands.add_parser("list", help="print every stored model")
    verifying = commands.add_parser("verify", help="hash every file of every stored model")
    verifying.add_argument("--directory", type=Path, help="only this model's directory")
    for command in (fetching, listing, verifying):
        command.add_argument("--store", type=Path, required=True, help="root of the model store")
    return parser


def _hub_settings(text: str) -> dict[str, str]:
    """What stdin says of the hub; whatever else it holds is left out. Raises ModelProblem."""
    try:
        given = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError) as wrong:
        # Without its own words: they may repeat what was given.
        raise ModelProblem("the settings of the hub on stdin cannot be read", type(wrong).__name__) from None
    return {name: value for name, value in given.items() if name in _HUB_SETTINGS}


def _fetch(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    if options.hub_from_stdin:
        os.environ.update(_hub_settings(sys.stdin.read()))
    stored = asyncio.run(fetch(parse_spec(options.spec), ModelStore(options.store), progress))
    return _summary(stored)


def _resolve(options: argparse.Namespace, _: Progress) -> dict[str, Any]:
    spec = parse_spec(options.spec)
    if not isinstance(spec, HubSpec):
        raise ModelProblem("only a model of the hub has commits", f"the source is {type(spec).__name__}")
    return {"id": spec.id, "revision": resolve_commit(spec)}


def _list(options: argparse.Namespace, _: Progress) -> dict[str, Any]:
    models, damaged = ModelStore(options.store).list()
    return {
        "models": [_summary(model) for model in models],
        "damaged": [{"directory": str(path), "because": why} for path, why in damaged],
    }


def _verify(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    store = ModelStore(options.store)
    models, damaged = store.list()
    if options.directory is not None:
        models = [StoredModel(options.directory, read_manifest(options.directory))]
        damaged = []
    reports: list[dict[str, Any]] = [
        {"directory": str(path), "file": MANIFEST, "because": why} for path, why in damaged
    ]
    for number, model in enumerate(models):
        found = damage(model.directory, model.manifest)
        reports += [{"directory": str(model.directory), "file": f, "because": why} for f, why in found]
        progress.amount("verify", number + 1, len(models), "models")
    return {"ok": not reports, "verified": len(models), "damaged": reports}


def _summary(stored: StoredModel) -> dict[str, Any]:
    manifest: dict[str, Any] = msgspec.to_builtins(stored.manifest)
    probes = manifest.pop("probes")
    return {
        "directory": str(stored.directory),
        "manifest": sha256_file(stored.directory / MANIFEST),
        **manifest,
        "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
        "probes": {"kind": probes["kind"], "origin": probes["origin"], "count": len(probes["items"])},
    }


def _error(message: str, because: str, next_step: str) -> dict[str, Any]:
    return {"event": "error", "message": message, "because": because, "next": next_step}


@contextlib.contextmanager
def _looking_up_every_second() -> Iterator[None]:
    """A signal that comes just before a read blocks is noticed by Python only when the read ends."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        # An ending interpreter takes its handlers back, and the alarm would then end the process.
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


_COMMANDS = {"fetch": _fetch, "resolve": _resolve, "list": _list, "verify": _verify}

if __name__ == "__main__":
    sys.exit(main())
