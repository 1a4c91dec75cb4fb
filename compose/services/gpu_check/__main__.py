"""`scripts/gpu-check`: parity, speed, share through HTTP, OOM ladder, kill and fallback, memory's return."""

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu_check import machine, sections
from gpu_check.plan import FULL, QUICK, Plan
from gpu_check.report import SCHEMA_VERSION, intact, sign, statement, verdicts
from gpu_check.sections import Subjects
from gpu_check.shapes import TINY, add, build, find_minilm
from gpuctl_serving.engines.threads import thread_count
from gpuctl_serving.models.store import ModelStore

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "test/golden"

_SECTIONS: dict[str, Callable[[Subjects], dict[str, Any]]] = {
    "parity": sections.parity,
    "throughput": sections.throughput,
    "share": sections.share,
    "ladder": sections.ladder,
    "kill": sections.kill_and_fall_back,
    "memory": sections.memory_return,
}
_ENGINES = {
    "cuda": ("torch-cuda", "float16"),
    "mps": ("torch-mps", "float32"),
    "cpu": ("torch-cpu", "float32"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check; 0 when every verdict is good."""
    options = _parser().parse_args(arguments)
    if options.verify is not None:
        return _verify(options.verify)
    plan = QUICK if options.quick else FULL
    name, dtype = _ENGINES[options.device]
    spec = {"name": name, "device": options.device, "dtype": dtype, "threads": thread_count()}
    on_machine = machine.describe(ROOT)
    said = statement(options.device, options.quick, on_machine["gpus"])
    _say(said)
    if options.device == "cuda" and not on_machine["gpus"]:
        _say(f"No NVIDIA GPU: {on_machine['no_gpu_because']}")
        _say("The check itself runs without one: scripts/gpu-check --device cpu --quick")
        return 1
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        subjects = _prepare(spec, plan, Path(work), options.minilm)
        facts = {
            "schemaVersion": SCHEMA_VERSION,
            "what": "gpu-check",
            "statement": said,
            "gpu": options.device != "cpu",
            "quick": options.quick,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "engine": spec,
            "machine": on_machine,
        }
        document = _measure(facts, subjects, options.only or [*_SECTIONS], options.out)
    if options.out is None:
        sys.stdout.write(_text(document))
    else:
        _say(f"wrote {options.out}")
    bad = [verdict["of"] for verdict in document["verdicts"] if not verdict["ok"]]
    _say(f"FAILED: {', '.join(bad)}" if bad else f"{len(document['verdicts'])} verdicts, all good")
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("--device", choices=sorted(_ENGINES), default="cuda", help="default: cuda")
    parser.add_argument(
        "--quick", action="store_true", help="small models, short rounds: proves the check itself"
    )
    parser.add_argument(
        "--minilm", type=Path, help="directory of a fetched all-MiniLM-L6-v2 (with manifest.json)"
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(_SECTIONS), help="run this section; repeatable"
    )
    parser.add_argument("--out", type=Path, help="write the JSON here (default: stdout)")
    parser.add_argument("--verify", type=Path, metavar="FILE", help="check the hash of an earlier result")
    return parser


def _prepare(spec: dict[str, Any], plan: Plan, work: Path, minilm: Path | None) -> Subjects:
    store = ModelStore(work / "store")
    models = {name: add(store, GOLDEN / "models" / name, "cls" if name == TINY[0] else None) for name in TINY}
    found = find_minilm(minilm, store)
    if found is not None:
        models["minilm"] = found
    for shape in {plan.embedder, plan.reranker, *(() if found else (plan.minilm,))}:
        _say(f"building {shape.name} with random weights")
        models[shape.name] = build(shape, store, work, GOLDEN)
    name = "minilm" if found else plan.minilm.name
    return Subjects(spec, models, name, plan.embedder.name, plan.reranker.name, GOLDEN, plan)


def _measure(
    facts: dict[str, Any], subjects: Subjects, names: Sequence[str], out: Path | None
) -> dict[str, Any]:
    """Section after section; what is there is written after each, for a card may be lent for minutes only."""
    found: dict[str, Any] = {}
    document: dict[str, Any] = {}
    for number, name in enumerate(names, 1):
        found[name] = _run(name, subjects)
        document = sign(
            {**facts, "sections": found, "missing": [*names[number:]], "verdicts": verdicts(found)}
        )
        if out is not None:
            out.write_text(_text(document))
    return document


def _run(name: str, subjects: Subjects) -> dict[str, Any]:
    _say(f"{name} ...")
    started = time.monotonic()
    try:
        found = _SECTIONS[name](subjects)
    except Exception as failure:  # A section that fails, in whatever way, must not cost the others.
        found = {"failed_because": f"{type(failure).__name__}: {failure}"}
        _say(f"  {found['failed_because']}")
    _say(f"  {time.monotonic() - started:.0f} s")
    return found


def _verify(file: Path) -> int:
    good = intact(json.loads(file.read_text()))
    _say(f"{file} is {'as it was written' if good else 'NOT as it was written: its hash does not fit'}")
    return 0 if good else 1


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
