"""A backup as a tar stream: written without knowing its end, read without trusting its names."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE


def stream(directory: Path) -> Iterator[bytes]:
    """The files of a directory as a tar archive; the manifest first, so that a reader can refuse early."""
    files = sorted((path for path in directory.rglob("*") if path.is_file()), key=_manifest_first)
    for path in files:
        info = tarfile.TarInfo(str(path.relative_to(directory)))
        info.size, info.mode = path.stat().st_size, 0o600
        yield info.tobuf(tarfile.PAX_FORMAT)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        if info.size % _BLOCK:
            yield bytes(_BLOCK - info.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _manifest_first(path: Path) -> tuple[bool, str]:
    return path.name != "manifest.json", str(path)


def unpack(archive: IO[bytes], directory: Path) -> None:
    """Reads such an archive into a directory. Raises ValueError for anything a backup does not hold."""
    try:
        with tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                name = Path(member.name)
                if not member.isfile() or name.is_absolute() or ".." in name.parts or len(name.parts) > 2:
                    raise ValueError(f"{member.name!r} has no place in a backup of an index")
                content = members.extractfile(member)
                if content is None:
                    raise ValueError(f"{member.name!r} cannot be read")
                path = directory / name
                path.parent.mkdir(mode=0o700, exist_ok=True)
                with path.open("xb") as file:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
    except tarfile.TarError as wrong:
        raise ValueError(f"it is not a tar archive, or it ends too early ({wrong})") from wrong
