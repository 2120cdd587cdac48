"""The bytes of objects, in files whose names have nothing to do with the objects' names.

Each upload gets a fresh random id, its version, which names the file and stands in storage.objects.version.
So a file never changes once it is there, a name in a request never reaches the file system, and a move moves
no bytes. A file is complete and synced before its row is committed, and goes after the row that named it has
gone: a crash leaves at most files that no row names, whole ones or not, and the next start removes these.
"""

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

BLOCK = 256 * 1024  # bytes that are written, or read, at a time


@dataclass(frozen=True)
class Written:
    """A file that is complete: its version, its bytes, and their MD5 as S3's ETag has it."""

    version: str
    size: int
    etag: str


class TooLargeError(Exception):
    """More bytes came than are allowed; nothing is left of them."""


def _sync(descriptor: int, folder: Path) -> None:
    os.fsync(descriptor)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Disk:
    """Files in the folder `objects` below `root`."""

    def __init__(self, root: Path) -> None:
        self.objects = root / "objects"

    def open(self) -> None:
        """Make the folders."""
        for folder in (self.objects.parent, self.objects):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _path(self, version: str | None) -> Path:
        # A version comes from the database, where an operator may have written something else.
        return self.objects / str(uuid.UUID(str(version)))

    async def write(self, chunks: AsyncIterator[bytes], limit: int) -> Written:
        """Store the chunks as a new version. Raises TooLargeError beyond `limit` bytes.

        Whatever else goes wrong while they come leaves nothing either.
        """
        version, digest, size = str(uuid.uuid4()), hashlib.md5(usedforsecurity=False), 0
        path = self._path(version)

        def append(block: bytes) -> None:
            digest.update(block)
            file.write(block)

        try:
            with path.open("xb") as file:
                pending = bytearray()
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLargeError
                    pending += chunk
                    if len(pending) >= BLOCK:
                        await asyncio.to_thread(append, bytes(pending))
                        pending.clear()
                append(bytes(pending))  # too little to be worth a thread
                file.flush()
                await asyncio.to_thread(_sync, file.fileno(), self.objects)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Written(version, size, f'"{digest.hexdigest()}"')

    async def copy(self, version: str) -> str:
        """The same bytes as a new version. Raises FileNotFoundError when they are gone."""

        def link() -> str:
            fresh = str(uuid.uuid4())
            os.link(self._path(version), self._path(fresh))  # a version never changes
            _sync_folder(self.objects)
            return fresh

        return await asyncio.to_thread(link)

    def reader(self, version: str | None) -> tuple[BufferedReader, int]:
        """The open file and its size; it stays readable when it is removed. Raises FileNotFoundError."""
        file = self._path(version).open("rb")
        return file, os.fstat(file.fileno()).st_size

    @staticmethod
    async def read(file: BufferedReader, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start`, in blocks; closes the file."""
        with file:
            file.seek(start)
            while length > 0 and (block := await asyncio.to_thread(file.read, min(BLOCK, length))):
                length -= len(block)
                yield block

    def remove(self, versions: Iterable[str | None]) -> None:
        """Remove files whose rows are gone."""
        for version in versions:
            with contextlib.suppress(FileNotFoundError, ValueError):
                self._path(version).unlink()

    def remove_others(self, known: set[str]) -> int:
        """Remove every file that is not among the versions. Returns how many."""
        left = [path for path in self.objects.iterdir() if path.name not in known]
        for path in left:
            path.unlink()
        return len(left)
