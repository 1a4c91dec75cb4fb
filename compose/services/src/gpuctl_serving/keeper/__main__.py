"""Runs a keeper, prints its systemd unit, or sends it one request (`call --state DIR JSON`)."""

import argparse
import asyncio
import fcntl
import json
import os
import sys
from pathlib import Path

import gpuctl_serving
from gpuctl_serving.keeper.keeper import Keeper, Options
from gpuctl_serving.keeper.logs import redirect_output
from gpuctl_serving.keeper.paths import Paths
from gpuctl_serving.keeper.unit import unit
from gpuctl_serving.kit.control import Refused, ask_now

#: Another keeper holds this environment (EX_TEMPFAIL).
ALREADY_HELD = 75


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for; returns the exit status."""
    if arguments[:1] == ["call"]:
        return _call(arguments[1:])
    parser = argparse.ArgumentParser("python -m gpuctl_serving.keeper", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state directory of the environment")
    parser.add_argument("--restore", action="store_true", help="after a reboot, start again what was open")
    parser.add_argument("--print-unit", action="store_true", help="print a systemd user unit, and end")
    options = parser.parse_args(arguments)
    state = Path(os.path.abspath(options.state))  # noqa: PTH100 - links are not followed: the CLI does not follow them
    if options.print_unit:
        sys.stdout.write(unit(state, Path(gpuctl_serving.__file__).parents[1].absolute()))
        return 0
    return keep(Paths.of(state), Options(restore=options.restore))


def keep(paths: Paths, options: Options) -> int:
    """Becomes the one keeper of the environment, until told to end; returns the exit status."""
    os.umask(0o077)
    try:
        paths.make()
    except OSError as failure:
        sys.stderr.write(f"The keeper cannot use {paths.state}: {failure}.\n")
        return 1
    lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(
            f"Another keeper{_named(paths.identity)} holds {paths.state}. "
            "`gpuctl status` talks to it; nothing was started.\n"
        )
        return ALREADY_HELD
    redirect_output(paths.logs / "keeper.log")
    asyncio.run(_run(paths, options))
    return 0


async def _run(paths: Paths, options: Options) -> None:
    await Keeper(paths, options).run()


def _named(identity: Path) -> str:
    try:
        return f" (pid {json.loads(identity.read_text(encoding='utf-8'))['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _call(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m gpuctl_serving.keeper call", description="One request to a keeper."
    )
    parser.add_argument("--state", type=Path, required=True, help="state directory of the environment")
    parser.add_argument("request", help='for example {"op":"list"}')
    options = parser.parse_args(arguments)
    socket = Paths.of(Path(os.path.abspath(options.state))).socket  # noqa: PTH100 - as above
    try:
        answer, _ = ask_now(socket, json.loads(options.request), 60)
    except Refused as refused:
        answer = refused.answer()
    except (OSError, ValueError) as failure:
        sys.stderr.write(f"No keeper answers on {socket} ({failure}). `gpuctl repair` starts one.\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=1) + "\n")
    return 0 if answer["ok"] is True else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
