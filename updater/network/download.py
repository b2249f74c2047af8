"""Download of one signed file from several addresses: it is resumed, and only an answer that fits is written."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from dbsync.storage import file_calls, files
from updater.answers import Answer
from updater.decisions.transfer import (
    OVERLAP_BYTES,
    Body,
    Terms,
    Tries,
    Unfit,
    after_break,
    after_unfit,
    judge,
    next_address,
    retry_seconds,
    terms,
)
from updater.model import Sha256
from updater.network.addresses import Addresses
from updater.network.http import ForeignCoding, Http, Reply, Trouble
from updater.network.manner import Manner

WHOLES_COUNT: Final = 4
"""How many times a file may come over the line in one run."""
SPACE_CHECK_BYTES: Final = 4_000_000
"""How much is written between two looks at the free space."""


class Wanted(NamedTuple):
    """A signed file, and where it is put."""

    name: str
    """In the repository, such as `targets/…`."""
    target: Path
    size_bytes: int
    sha256: Sha256

    @property
    def part(self) -> Path:
        """Its beginning, until it is whole."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def other(self) -> Path:
        """An answer that differs from the part and has no length: kept if it is the file. A crash leaves it unused."""
        return self.target.with_name(f"{self.target.name}.other.part")


class _Unfit(Exception):
    """An answer whose bytes are not those of the file; nothing was written."""

    def __init__(self, found: Unfit) -> None:
        super().__init__(found.cause)
        self.found = found


class Download:
    """One run of a download.

    Args:
        wanted: the file.
        addresses: where it may come from.
        manner: limits.
        seconds: the time of the whole run.
        progress: receives the bytes that are there.
    """

    def __init__(
        self, wanted: Wanted, addresses: Addresses, manner: Manner, *, seconds: float, progress: Callable[[int], None]
    ) -> None:
        self._wanted: Final = wanted
        self._addresses: Final = addresses
        self._manner: Final = manner
        self._ends: Final = time.monotonic() + seconds
        self._progress: Final = progress
        self._tries: dict[str, Tries] = {}
        self._troubles: dict[str, Trouble] = {}
        self._mixed = _size(wanted.part) > 0
        """Whether the part has bytes of more than the last address: then a wrong hash accuses none of them."""
        self.fetched_bytes = 0
        """What came over the line."""

    def run(self) -> int:
        """Bring the file to its place, durably; return the number of bytes that came over the line.

        Raises:
            Trouble: it is incomplete, and its part is kept for the next run; or, with the answer REFUSED, what came
                differs from what was signed.
        """
        wanted = self._wanted
        if _is(wanted.target, wanted):
            return 0
        order = self._addresses.in_order(folders_first=True)
        self._tries = {address: Tries() for address in order}
        last: str | None = None
        while not self._is_whole(last):
            address = next_address(order, self._tries, last)
            if address is None or self._is_spent():
                raise self._given_up(order[0])
            if last is not None and address != last and _size(wanted.part) > 0:
                self._mixed = True
            self._pause(self._tries[address].empty_count)
            last = address
            self._try(address)
        if last is not None:
            self._addresses.worked(last)
        return self.fetched_bytes

    def _is_spent(self) -> bool:
        """Return whether time or bytes of this run are used up: a server that begins anew each time has an end too."""
        return time.monotonic() >= self._ends or self.fetched_bytes > WHOLES_COUNT * self._wanted.size_bytes

    def _given_up(self, first: str) -> Trouble:
        late = Trouble(Answer.TIMED_OUT, f"{self._wanted.name}: it is not whole, and its time was up")
        return self._addresses.given_up(list(self._troubles.items()) or [(first, late)])

    def _is_whole(self, last: str | None) -> bool:
        """Return whether the part is the file, and has its name by now. One that is complete and wrong is removed."""
        wanted = self._wanted
        if not wanted.part.exists() or _size(wanted.part) < wanted.size_bytes:
            return False
        if _is(wanted.part, wanted):
            files.sync_file(wanted.part)
            files.rename_durably(source=wanted.part, target=wanted.target)
            return True
        with files.disk_errors("remove", wanted.part):
            file_calls.remove(wanted.part, missing_ok=False)
        if last is not None and not self._mixed:
            self._fail(last, Trouble(Answer.REFUSED, f"{wanted.name}: what came is not what was signed"))
            self._tries[last] = self._tries[last]._replace(closed=True)
        self._mixed = False
        return False

    def _try(self, address: str) -> None:
        """Ask one address once, and note what became of it."""
        tries, before, began = self._tries[address], _size(self._wanted.part), time.monotonic()
        granted = self._terms(address)
        try:
            self._ask(address, granted, whole=tries.whole)
        except _Unfit as error:
            self._fail(
                address, Trouble(error.found.answer, f"{Http(address, self._manner).shown}: {error.found.cause}")
            )
            self._tries[address] = after_unfit(tries, error.found)
        except Trouble as trouble:
            if trouble.answer in (Answer.NO_SPACE, Answer.TROUBLE):
                raise
            self._fail(address, trouble)
            if isinstance(trouble, ForeignCoding):
                self._tries[address] = after_unfit(tries, Unfit(trouble.answer, trouble.detail, whole=True))
            elif trouble.wait_seconds is not None:
                # It said when: it is not asked again in this run.
                self._tries[address] = tries._replace(closed=True)
            elif trouble.answer in (Answer.OFFLINE, Answer.TIMED_OUT, Answer.SERVER_BUSY):
                self._tries[address] = after_break(
                    tries,
                    progress_bytes=_size(self._wanted.part) - before,
                    seconds=time.monotonic() - began,
                    least_rate=granted.least_rate,
                    minimum_rate=self._manner.least_rate,
                    retries_count=self._manner.retries_count,
                )
            else:
                self._tries[address] = tries._replace(closed=True)

    def _fail(self, address: str, trouble: Trouble) -> None:
        self._troubles[address] = trouble
        self._addresses.failed(address, trouble)

    def _pause(self, empty_count: int) -> None:
        if empty_count:
            seconds = retry_seconds(empty_count, base_seconds=self._manner.retry_seconds, chance=random.random())  # noqa: S311 - it guards nothing
            time.sleep(min(seconds, max(0.0, self._ends - time.monotonic())))

    def _terms(self, address: str) -> Terms:
        return terms(
            self._tries,
            address,
            left_bytes=self._wanted.size_bytes - _size(self._wanted.part),
            left_seconds=self._ends - time.monotonic(),
            minimum_rate=self._manner.least_rate,
            most_rate=self._manner.most_rate,
        )

    def _ask(self, address: str, granted: Terms, *, whole: bool) -> None:
        wanted, have = self._wanted, _size(self._wanted.part)
        start = 0 if whole else max(0, have - OVERLAP_BYTES)
        http = Http(address, self._manner, until=time.monotonic() + granted.seconds)
        with http.get(wanted.name, start=start, strict=whole) as reply:
            reply.refuse_busy()
            fit = judge(reply.told.head, start=start, size_bytes=wanted.size_bytes)
            if isinstance(fit, Unfit):
                raise _Unfit(fit)
            try:
                self._write(reply, fit, granted.least_rate)
            finally:
                self.fetched_bytes += reply.received_bytes
        if _size(wanted.part) < wanted.size_bytes:
            raise Trouble(
                Answer.OFFLINE, f"{http.shown}: it ended after {_size(wanted.part)} of {wanted.size_bytes} bytes"
            )

    def _write(self, reply: Reply, fit: Body, rate: float) -> None:
        """Write a body behind the bytes that are there, after comparing it with them where it overlaps.

        Where it differs from them it is dropped. Only an answer for the whole file whose length is the signed one
        replaces them, from the first difference on; one without a length does if it turns out to be the file.
        """
        wanted, part = self._wanted, self._wanted.part
        mode = "r+b" if part.exists() else "w+b"
        with files.disk_errors("write", part), file_calls.open_to_write(part, mode, buffering=0) as file:
            have = min(_size(part), wanted.size_bytes)
            place, written, differing = fit.start, SPACE_CHECK_BYTES, None
            file.truncate(have)
            chunks = reply.chunks(size_bytes=wanted.size_bytes, least_rate=rate)
            for chunk in chunks:
                if place < have:
                    file.seek(place)
                    known = file.read(min(len(chunk), have - place))
                    same = _same_count(known, chunk)
                    if same < len(known):
                        if not fit.sure:
                            place, differing = place + same, chain((chunk[same:],), chunks)
                            break
                        self._refuse_difference(fit, place + same)
                        have = place + same
                        file.truncate(have)
                # What is longer than signed may still begin with the file: its hash tells.
                new = chunk[max(0, have - place) : wanted.size_bytes - place]
                if new:
                    written = self._check_space(written + len(new))
                    file.seek(have)
                    _write_all(file, new)
                    have += len(new)
                    self._progress(have)
                place += len(chunk)
                if place >= wanted.size_bytes:
                    break
        if differing is not None:
            self._take_other(place, differing)

    def _refuse_difference(self, fit: Body, place: int) -> None:
        """Refuse bytes that differ from those that are there, unless they are of an answer for the whole file."""
        if fit.start > 0:
            raise _Unfit(
                Unfit(Answer.SERVER_WRONG, f"the part does not continue what is here (at {place})", whole=True)
            )
        self._mixed = True

    def _take_other(self, same_bytes: int, differing: Iterator[bytes]) -> None:
        """Take what differs from the part, and has no length, into a file of its own, and keep it if it is the file.

        Which of the two is wrong, the page of a portal or a part that came from elsewhere, only the hash tells.

        Args:
            same_bytes: how much of the part it begins with.
            differing: the rest of it.
        """
        wanted, have, written = self._wanted, same_bytes, SPACE_CHECK_BYTES
        try:
            with (
                files.disk_errors("write", wanted.other),
                file_calls.open_to_read(wanted.part) as part,
                file_calls.open_to_write(wanted.other, "w+b", buffering=0) as file,
            ):
                for chunk in chain(_beginning(part, same_bytes), differing):
                    new = chunk[: max(0, wanted.size_bytes - file.tell())]
                    written = self._check_space(written + len(new))
                    _write_all(file, new)
                    have = file.tell()
                    if have >= wanted.size_bytes:
                        break
            if _is(wanted.other, wanted):
                files.replace(source=wanted.other, target=wanted.part)
                return
        finally:
            file_calls.remove_if_possible(wanted.other)
        raise _Unfit(
            Unfit(Answer.SERVER_WRONG, f"what came differs from what is here (at {same_bytes}), without a length")
        )

    def _check_space(self, written: int) -> int:
        if written < SPACE_CHECK_BYTES:
            return written
        files.keep_free(
            self._wanted.part.parent,
            operation="download",
            ahead_bytes=SPACE_CHECK_BYTES,
            reserve_bytes=self._manner.reserve_bytes,
        )
        return 0


def _beginning(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while size_bytes and (chunk := file.read(min(size_bytes, SPACE_CHECK_BYTES))):
        size_bytes -= len(chunk)
        yield chunk


def _same_count(known: bytes, chunk: bytes) -> int:
    """Return how many bytes are the same from the beginning on."""
    if known == chunk[: len(known)]:
        return len(known)
    return next(place for place, (before, after) in enumerate(zip(known, chunk, strict=False)) if before != after)


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _is(path: Path, wanted: Wanted) -> bool:
    """Return whether a path has the signed bytes."""
    return path.exists() and _size(path) == wanted.size_bytes and files.sha256_of(path) == wanted.sha256


def _size(path: Path) -> int:
    return files.size_of(path)
