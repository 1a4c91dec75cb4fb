"""Routes of long work: each starts a job and answers its result, or where to ask for it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gpuctl_serving.index import archive, removal, upkeep
from gpuctl_serving.index.checks import check_remove
from gpuctl_serving.index.core import Core
from gpuctl_serving.index.durable import manifest as manifests
from gpuctl_serving.index.durable.files import stamp
from gpuctl_serving.index.durable.snapshot import copy_to
from gpuctl_serving.index.handover import Lost, Origin, forward
from gpuctl_serving.index.maintenance import Job, Maintenance, Progress, Run
from gpuctl_serving.index.requests import Remove
from gpuctl_serving.kit.app import json_response
from gpuctl_serving.kit.body import read_json
from gpuctl_serving.kit.errors import ServiceError, invalid, unavailable

#: A request waits so long for its job; then its client asks again.
_WAIT = 25.0


class Wait(msgspec.Struct, forbid_unknown_fields=True):
    """Body of the routes without other fields."""

    #: False: answered at once with the job.
    wait: bool = True


class Backup(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /private/backup`."""

    directory: str
    wait: bool = True


class MaintenanceRoutes:
    """The handlers."""

    def __init__(self, core: Core, maintenance: Maintenance) -> None:
        self._core, self._maintenance = core, maintenance

    async def snapshot(self, request: Request) -> Response:
        """`POST snapshot`."""
        return await self._by_writer(request, "snapshot", self._maintenance.snapshot)

    async def compact(self, request: Request) -> Response:
        """`POST compact`."""
        return await self._by_writer(request, "compact", partial(upkeep.compact, self._core))

    async def remove(self, request: Request) -> Response:
        """`POST namespaces/remove`: its name at once, its items piece by piece."""
        body = await read_json(request, Remove)
        check_remove(body)
        if not await self._core.read(lambda: self._is_there(body.namespace)):
            raise ServiceError(
                404, "NotFound", f"There is no namespace {body.namespace!r} here.", param="namespace"
            )
        run = partial(removal.remove, self._core, body.namespace)
        return await self._by_writer(request, "remove", run, wait=body.wait)

    def _is_there(self, namespace: str) -> bool:
        with self._core.readers.snapshot() as snapshot:
            return snapshot.namespace(namespace) is not None

    async def rebuild(self, request: Request) -> Response:
        """`POST rebuild`: of this instance's memory."""
        return await self._here(request, "rebuild", partial(upkeep.rebuild, self._core))

    async def verify(self, request: Request) -> Response:
        """`POST verify`: of this instance and of what is on disk."""
        return await self._here(request, "verify", self._maintenance.verify)

    async def jobs(self, _: Request) -> Response:
        """`GET jobs`."""
        return json_response({"jobs": self._maintenance.jobs()})

    async def job(self, request: Request) -> Response:
        """`GET jobs/{job}`."""
        return json_response(self._maintenance.job(request.path_params["job"]).body())

    async def backup(self, request: Request) -> Response:
        """`POST /private/backup`: into a directory of this machine."""
        body = await read_json(request, Backup)
        target = _free(body.directory)
        run = partial(upkeep.backup, self._maintenance.source(), target)
        return await self._answer(self._maintenance.start_job("backup", run), wait=body.wait)

    async def backup_stream(self, _: Request) -> Response:
        """`GET backup`: everything, as a tar archive."""
        folder = self._core.settings.index_dir / manifests.FOLDER
        folder.mkdir(exist_ok=True, mode=0o700)
        work = folder / f"{manifests.UNFINISHED}streamed-{stamp()}"

        def copy(progress: Progress) -> dict[str, object]:
            made = copy_to(self._maintenance.source(), work, progress)
            return {"sequence": made.sequence, "items": made.items}

        job = self._maintenance.start_job("backup", copy)
        await asyncio.wrap_future(job.over)
        if job.result is None:
            raise unavailable(str(job.error), 30)
        headers = {
            "content-disposition": f'attachment; filename="gpuctl-index-{job.result["sequence"]}.tar"',
            "x-gpuctl-sequence": str(job.result["sequence"]),
        }
        return StreamingResponse(_streamed(work), media_type="application/x-tar", headers=headers)

    async def _by_writer(
        self, request: Request, kind: str, run: Run, *, wait: bool | None = None
    ) -> Response:
        """The writer alone trims the log and gives pages back; a follower passes the request on."""
        worker = self._core.worker
        if worker.role != "follower":
            return await self._here(request, kind, run, wait=wait)
        try:
            return await forward(
                request, worker.elsewhere(), Origin.of(request), self._core.live.key, repeatable=True
            )
        except Lost:
            raise ServiceError(
                409,
                "NotWriter",
                f"This instance is not the writer, and the one that is does not answer; no {kind}.",
            ) from None

    async def _here(self, request: Request, kind: str, run: Run, *, wait: bool | None = None) -> Response:
        if wait is None:
            wait = (await read_json(request, Wait)).wait if await request.body() else True
        return await self._answer(self._maintenance.start_job(kind, run), wait=wait)

    async def _answer(self, job: Job, *, wait: bool) -> Response:
        if wait:
            over = asyncio.shield(asyncio.wrap_future(job.over))
            try:
                await asyncio.wait_for(over, min(_WAIT, self._core.settings.deadline_ms / 1000))
            except TimeoutError:
                return json_response(job.body(), 202)
            if job.state == "failed":
                raise unavailable(job.error or f"{job.kind} failed.", 30)
        return json_response(job.body(), 200 if wait else 202)


def _free(directory: str) -> Path:
    target = Path(directory)
    if not target.is_absolute():
        raise invalid("directory must be an absolute path.", "directory")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise invalid(f"{target} is there already. Name a directory that is not.", "directory")
    return target


async def _streamed(work: Path) -> AsyncIterator[bytes]:
    try:
        async for chunk in iterate_in_threadpool(archive.stream(work)):
            yield chunk
    finally:
        shutil.rmtree(work, ignore_errors=True)
