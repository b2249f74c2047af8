"""Reading what another account can write: nothing is followed, nothing waits, nothing is larger than expected.

A folder that another account may write holds claims, not records: a link, a FIFO, a device, a file of a terabyte, JSON
that is a million levels deep. Each of them is content that is not ours (`NotOurs`), which callers treat as damaged.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from dbsync.errors import UnreadableFile, disk_problem
from dbsync.storage.files import disk_errors
from dbsync.storage.platform import this_platform

CLAIM_LIMIT_BYTES: Final = 256 * 1024
"""Far more than any file of ours in such a folder has."""
DEPTH_LIMIT: Final = 32
NAMES_LIMIT: Final = 10_000
"""Entries of a folder that are looked at: also those whose names are not ours."""
NAMES_SECONDS: Final = 5.0
QUOTE, BACKSLASH = b'"\\'
_OTHER_KINDS: Final = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENOTDIR, errno.EISDIR, errno.EMLINK, errno.ENAMETOOLONG}
)
"""Errors of the system where a link, a socket, a device without a driver or a folder is in the place of a file."""


class NotOurs(UnreadableFile):
    """An entry in the place of a file of ours that is none: by its kind, its size or its content."""

    hint_by_default = "Remove it. The product does not make such files: another program of that account made it."


class Listing(NamedTuple):
    """Names of a folder's entries that match a pattern, sorted."""

    names: tuple[str, ...] = ()
    complete: bool = True
    """False: there were more entries than are looked at."""


def read(path: Path, *, limit_bytes: int = CLAIM_LIMIT_BYTES, through_links: bool = False) -> bytes:
    """Return the content of a small file that another account may have made.

    Links are refused, unless they are to be followed: that gives nobody more than the rights of this process.

    Raises:
        FileNotFoundError: there is no entry of that name.
        NotOurs: it is no regular file, or too large; or its folder is a link.
        DiskProblem: it cannot be read now, which says nothing about its content.
    """
    with _open_for("read", path, through_links=through_links) as descriptor:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes > limit_bytes:
            _refuse(path, f"it has {size_bytes} bytes, at most {limit_bytes} are expected")
        data = _read_at_most(descriptor, limit_bytes + 1)
    if len(data) > limit_bytes:
        # It grew since its size was asked for.
        _refuse(path, f"it has more than {limit_bytes} bytes")
    return data


def read_tail(path: Path, *, size_bytes: int) -> bytes:
    """Return the end of a file that another account may have made, however large it is.

    Raises:
        FileNotFoundError: there is no entry of that name.
        NotOurs: it is no regular file.
        DiskProblem: it cannot be read now.
    """
    with _open_for("read", path) as descriptor:
        os.lseek(descriptor, max(0, os.fstat(descriptor).st_size - size_bytes), os.SEEK_SET)
        return _read_at_most(descriptor, size_bytes)


def sync(path: Path) -> None:
    """Make a file durable that another account may have made.

    Raises:
        FileNotFoundError: there is no entry of that name.
        NotOurs: it is no regular file.
        DiskProblem: it may not be durable.
    """
    with _open_for("sync", path) as descriptor:
        this_platform().sync_seen(descriptor, path)


def read_json(path: Path, *, limit_bytes: int = CLAIM_LIMIT_BYTES) -> dict[str, Any]:
    """Return the JSON object in a small file that another account may have made.

    Raises:
        FileNotFoundError: there is no entry of that name.
        NotOurs: it is no such file.
        DiskProblem: it cannot be read now, which says nothing about its content.
    """
    data = read(path, limit_bytes=limit_bytes)
    try:
        return parse(data)
    except ValueError as cause:
        raise NotOurs(operation="read", path=path, cause=str(cause)) from cause


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object that some bytes are.

    Raises:
        ValueError: they are none, or one with a name twice, a number that is none, text that no file can hold, or too
            many levels.
    """
    if _depth(data) > DEPTH_LIMIT:
        raise ValueError(f"more than {DEPTH_LIMIT} levels")
    found = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - it is the value of a file, and no argument
    if b"\\ud" in data.lower():
        # Half of a pair: every later write and print of it would fail. The error is a ValueError.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def names(folder: Path, pattern: str, *, count_limit: int = NAMES_LIMIT) -> Listing:
    """Return the names in a folder that match a regular expression as a whole; none if there is no such folder.

    Raises:
        NotOurs: a link or a file is in its place.
        DiskProblem: it cannot be read now.
    """
    wanted, deadline = re.compile(pattern), time.monotonic() + NAMES_SECONDS
    found: list[str] = []
    try:
        for count, name in enumerate(this_platform().claimed_names(folder), 1):
            if count > count_limit or time.monotonic() > deadline:
                return Listing(tuple(sorted(found)), complete=False)
            if wanted.fullmatch(name):
                found.append(name)
    except FileNotFoundError:
        return Listing()
    except OSError as cause:
        if cause.errno in _OTHER_KINDS:
            raise NotOurs(operation="read", path=folder, cause="it is no folder of ours") from cause
        raise disk_problem("read", folder, cause) from cause
    return Listing(tuple(sorted(found)))


def plain(text: str) -> str:
    """Return a string without the characters that a console obeys; lines and tabs become spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


@contextmanager
def _open_for(operation: str, path: Path, *, through_links: bool = False) -> Iterator[int]:
    """A regular file, open; a call on it that fails is this operation's on this path."""
    descriptor = _opened(path, through_links=through_links)
    try:
        with disk_errors(operation, path):
            yield descriptor
    finally:
        os.close(descriptor)


def _opened(path: Path, *, through_links: bool) -> int:
    try:
        descriptor = this_platform().open_claim(path, through_links=through_links)
    except FileNotFoundError:
        raise
    except OSError as cause:
        if cause.errno in _OTHER_KINDS:
            raise NotOurs(operation="read", path=path, cause="it is no regular file in a folder of ours") from cause
        raise disk_problem("read", path, cause) from cause
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        _refuse(path, "it is no regular file")
    return descriptor


def _read_at_most(descriptor: int, limit_bytes: int) -> bytes:
    data = b""
    while len(data) < limit_bytes and (chunk := os.read(descriptor, limit_bytes - len(data))):
        data += chunk
    return data


def _refuse(path: Path, cause: str) -> NoReturn:
    raise NotOurs(operation="read", path=path, cause=cause)


def _depth(data: bytes) -> int:
    """Return how deep the brackets outside strings are nested, or a number above it that is small enough."""
    openings_count = data.count(b"[") + data.count(b"{")
    if openings_count <= DEPTH_LIMIT:
        return openings_count
    depth = deepest = 0
    in_string = escaped = False
    # By hand: a regular expression for strings takes the square of the time on a string that does not end.
    for byte in data:
        if in_string:
            in_string, escaped = escaped or byte != QUOTE, byte == BACKSLASH and not escaped
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
        else:
            in_string = byte == QUOTE
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers could take different ones of them.
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _no_number(text)
    return value
