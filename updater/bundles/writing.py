"""Writing the files of a new version folder in threads of their own, hashed and compared as they are written."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import Queue
from typing import BinaryIO, Final, NamedTuple, Self

from dbsync.storage import files
from dbsync.storage.platform import this_platform
from updater.bundles.packs import unusable
from updater.manifest import FileEntry

STEPS_COUNT: Final = 16
"""How many steps may wait in a thread: some megabytes of memory."""
THREADS_COUNT: Final = 2
"""Making a small file takes longer than writing it, and most of that is the system's."""


class Folder(NamedTuple):
    """The folder that is written."""

    new_file: Callable[[str, FileEntry], BinaryIO]
    """Opens a new file of it."""
    keep_reserve: Callable[[int], None]
    """Is told how many bytes are written next; raises DiskFull."""
    written: Callable[[str], None]
    """Is told each file that is complete and as signed."""


class OldFile:
    """An open file of the old version: whatever it cannot read, the whole release can be fetched."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: Final = file

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file.fileno()

    def seek(self, place: int) -> None:
        """Go to a place of it.

        Raises:
            PackUnusable: no file has it.
        """
        try:
            self._file.seek(place)
        except OSError as cause:
            raise unusable(f"an old file has no byte {place}: {cause.strerror or cause}") from cause

    def read(self, size_bytes: int) -> bytes:
        """Return at most so many bytes.

        Raises:
            PackUnusable: it cannot be read.
        """
        try:
            return self._file.read(size_bytes)
        except OSError as cause:
            raise unusable(f"an old file cannot be read: {cause.strerror or cause}") from cause


class Target:
    """One new file. Its steps are done in one thread."""

    def __init__(self, path: str, entry: FileEntry, folder: Folder) -> None:
        self._path: Final = path
        self._entry: Final = entry
        self._folder: Final = folder
        self._digest: Final = hashlib.sha256()
        self._size_bytes = 0
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Make the file."""
        self._file = self._folder.new_file(self._path, self._entry)

    def take(self, chunk: bytes | memoryview) -> None:
        """Write the next bytes; close the file if that fails, because nothing else is done to it then."""
        assert self._file is not None
        try:
            self._folder.keep_reserve(len(chunk))
            self._digest.update(chunk)
            self._file.write(chunk)
        except BaseException:
            self._file.close()
            raise
        self._size_bytes += len(chunk)

    def copy(self, base: OldFile) -> None:
        """Make the whole file of an old one, in one step: of the same blocks where the disk can, else byte by byte.

        What is hashed is the new file. An old one that has more is cut off; the hash tells.

        Raises:
            PackUnusable: it is not what was signed, or the old one cannot be read.
        """
        self.begin()
        assert self._file is not None
        with self._file as file:
            if not this_platform().share_blocks(source=base.fileno(), target=file.fileno()):
                for chunk in _chunks(base, self._entry.size_bytes):
                    self.take(chunk)
            else:
                file.truncate(self._entry.size_bytes)
                for chunk in _chunks(file, self._entry.size_bytes):
                    self._digest.update(chunk)
                    self._size_bytes += len(chunk)
        self.finish()

    def finish(self) -> None:
        """End the file.

        Raises:
            PackUnusable: it is not what was signed.
        """
        self.close()
        if self._size_bytes != self._entry.size_bytes or self._digest.hexdigest() != self._entry.sha256:
            raise unusable(f"{self._path} does not become what the manifest says")
        self._folder.written(self._path)

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            self._file.close()


def _chunks(file: OldFile | BinaryIO, size_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file, as many as the new one has."""
    while size_bytes:
        chunk = file.read(min(size_bytes, files.READ_SIZE_BYTES))
        if not chunk:
            return
        size_bytes -= len(chunk)
        yield chunk


class Behind:
    """A thread that does steps in their order. After one that failed it does no other, and its error is raised here."""

    def __init__(self) -> None:
        self._steps: Final[Queue[Callable[[], None] | None]] = Queue(STEPS_COUNT)
        self._error: BaseException | None = None
        self._thread: Final = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def do(self, step: Callable[[], None]) -> None:
        """Have a step done; wait if many are waiting.

        Raises:
            BaseException: as an earlier step has raised it.
        """
        if self._error is not None:
            raise self._error
        self._steps.put(step)

    def waiting_count(self) -> int:
        """Return about how many steps are waiting."""
        return self._steps.qsize()

    def wait(self) -> None:
        """Wait until no step is waiting."""
        self._steps.join()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._steps.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                if self._error is None:
                    step()
            except BaseException as error:  # noqa: BLE001 - of any type: it is raised in the other thread
                self._error = error
            finally:
                self._steps.task_done()


@contextmanager
def threads() -> Iterator[tuple[Behind, ...]]:
    """Threads that write inside the block; at its end all steps are done.

    Raises:
        BaseException: as a step has raised it.
    """
    with ExitStack() as ended:
        yield tuple(ended.enter_context(Behind()) for _ in range(THREADS_COUNT))
