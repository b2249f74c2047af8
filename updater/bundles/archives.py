"""tufup's archive of a release, read so that neither a header nor the number of its members fills the memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final, Self

HEADER_LIMIT_BYTES: Final = 1 << 20
"""Of a header that holds names for the member after it: tarfile reads each whole."""
EXTRA_COUNT: Final = 10_000
PER_FILE_COUNT: Final = 10
"""Members beside those of the files: folders, which the manifest does not count."""


class _Header(tarfile.TarInfo):
    """A header of an archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the header that some bytes are.

        Raises:
            ReadError: what follows it is read whole, and is too large.
        """
        found = super().frombuf(buf, encoding, errors)
        if not (found.isreg() or found.isdir() or found.issym()) and found.size > HEADER_LIMIT_BYTES:
            raise tarfile.ReadError(f"a header with {found.size} bytes")
        return found


def opened(file: BinaryIO) -> tarfile.TarFile:
    """Return an open archive.

    Raises:
        TarError: it is none.
    """
    return tarfile.open(fileobj=file, mode="r:*", tarinfo=_Header)


def members(archive: tarfile.TarFile, *, files_count: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive.

    Raises:
        TarError: it is damaged, or has far more members than files.
    """
    limit_count = EXTRA_COUNT + PER_FILE_COUNT * files_count
    for count, member in enumerate(archive):
        if count >= limit_count:
            raise tarfile.ReadError(f"more than {limit_count} members for {files_count} files")
        yield member
