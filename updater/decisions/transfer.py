"""Decisions about a download: which answers fit, what is asked next, and when an address is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from updater.answers import Answer

OVERLAP_BYTES: Final = 1024
"""Bytes that a resumed download asks for again: what differs from them continues another file, or a damaged one."""
PROGRESS_BYTES: Final = 4096
"""An answer that brought less than this is no progress."""
FIRST_PAUSE_SECONDS: Final = 300.0
"""How long an address is left alone after a first failed run."""
LONGEST_RETRY_SECONDS: Final = 30.0
BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses of a server, or of one before it, that answers later."""
ENCODED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that are undone."""
GZIP: Final = b"\x1f\x8b"
UNKNOWN_LIMIT_BYTES: Final = 16_000_000
"""Of an answer whose size nobody has signed: metadata has some megabytes."""
CODING_BYTES: Final = 1 << 16
"""Bytes that a content coding may add to a small file; to a large one it adds less than a thousandth."""


class Head(NamedTuple):
    """Head of an answer, as far as a decision needs it."""

    status: int
    length: int | None = None
    """The length of the body that the server announced."""
    span: tuple[int, int, int | None] | None = None
    """Content-Range: first and last byte, and the size of the whole file if the server knows it."""
    coding: str = ""
    """Content-Encoding in small letters; empty for none."""


class Body(NamedTuple):
    """An answer that fits: its bytes are those of the file from `start` on."""

    start: int
    sure: bool
    """Whether the length is that of the signed file: only such an answer may replace bytes that are there."""


class Unfit(NamedTuple):
    """An answer that is not the file, or not the wanted part of it: nothing that is on disk is touched."""

    answer: Answer
    cause: str
    whole: bool = False
    """Whether the same address may be asked for the whole file instead."""


def judge(head: Head, *, start: int, size_bytes: int) -> Body | Unfit:
    """Return whether an answer can be the file, from its head alone.

    Args:
        head: the answer.
        start: the first byte that was asked for; 0 for the whole file.
        size_bytes: the signed size of the file.
    """
    if head.status == 206:
        # With a coding that is not the file's own, the span would count other bytes: its total differs.
        fits = start > 0 and head.span is not None and head.span[0] == start and head.span[2] in (size_bytes, None)
        return Body(start, sure=True) if fits else Unfit(Answer.SERVER_WRONG, _wrong_span(head, size_bytes), start > 0)
    if head.status == 200:
        if head.length is None or head.length == size_bytes or (head.coding and head.coding != "identity"):
            return Body(0, sure=head.length == size_bytes)
        return Unfit(Answer.SERVER_WRONG, f"{head.length} bytes came for a file of {size_bytes}")
    if start > 0 and head.status >= 400:
        # Some servers and proxies refuse ranges, in many ways, and serve the same file as a whole.
        return Unfit(Answer.SERVER_WRONG, f"status {head.status} for a part of the file", whole=True)
    return Unfit(Answer.SERVER_WRONG, f"status {head.status}")


def _wrong_span(head: Head, size_bytes: int) -> str:
    if head.span is None:
        return "status 206 without the range that it has"
    return f"status 206 with bytes {head.span[0]}-{head.span[1]} of {head.span[2]}, of a file of {size_bytes}"


def undoes(head: Head, *, is_gzip: bool, first: bytes, decoded: bytes, size_bytes: int | None) -> bool | None:
    """Return whether the content coding of an answer is undone; None if it is one that cannot be.

    Nobody asks for a coding. Servers label a file that is compressed itself (`AddEncoding x-gzip .gz`), and others
    compress what they pass on, with the same word. The length tells, then the first bytes.

    Args:
        head: the answer.
        is_gzip: whether the file is gzip itself.
        first: the first bytes as they came.
        decoded: the first bytes with the coding undone; empty if that failed.
        size_bytes: the signed size; None where it is not known.
    """
    if head.coding in ("", "identity") or (size_bytes is not None and head.length == size_bytes):
        return False
    if head.status == 206:
        return False if head.span is not None and head.span[2] == size_bytes else None
    if head.coding not in ENCODED:
        return None
    if head.coding != "deflate" and not first.startswith(GZIP):
        return False
    return bool(decoded) and (decoded.startswith(GZIP) or not is_gzip)


def most_bytes(size_bytes: int | None) -> int:
    """Return how many bytes one answer may have: with a coding, a body can go on for ever and unpack to nothing.

    Args:
        size_bytes: the signed size; None where it is not known.
    """
    return UNKNOWN_LIMIT_BYTES if size_bytes is None else size_bytes + size_bytes // 8 + CODING_BYTES


class Tries(NamedTuple):
    """History of one address in this run of a download."""

    empty_count: int = 0
    """Tries in a row that brought nothing, or less than any address must bring."""
    whole: bool = False
    """Whether it is asked for whole files only."""
    closed: bool = False
    """Whether it is not asked again in this run."""
    slow_rate: float | None = None
    """Bytes per second of its last try, if that was slower than its terms."""


class Terms(NamedTuple):
    """Terms of one try."""

    seconds: float
    least_rate: float
    """Bytes per second below which the address gives way."""


def after_unfit(tries: Tries, found: Unfit) -> Tries:
    """Return the history after an answer that did not fit: a whole file is asked for once, then the next address."""
    if found.whole and not tries.whole:
        return tries._replace(whole=True)
    return tries._replace(closed=True)


def after_break(
    tries: Tries, *, progress_bytes: int, seconds: float, least_rate: float, minimum_rate: float, retries_count: int
) -> Tries:
    """Return the history after an answer that broke off, or did not come: what makes progress is asked again.

    Args:
        tries: its history.
        progress_bytes: what the try brought.
        seconds: how long it took.
        least_rate: the bytes per second of its terms.
        minimum_rate: those that any address must bring.
        retries_count: tries in a row that bring nothing, until it is given up.
    """
    rate = progress_bytes / max(seconds, 0.001)
    brought = progress_bytes >= PROGRESS_BYTES
    empty_count = 0 if brought and rate >= minimum_rate else tries.empty_count + 1
    slow_rate = rate if brought and rate < least_rate else None
    return tries._replace(empty_count=empty_count, slow_rate=slow_rate, closed=empty_count >= retries_count)


def terms(
    tries: Mapping[str, Tries], address: str, *, left_bytes: int, left_seconds: float, minimum_rate: float,
    most_rate: float,
) -> Terms:  # fmt: skip
    """Return what a try of an address is granted, so that a slow one does not keep the others from being asked.

    Beside addresses that were not slow yet, it has a share of the time and has to bring the rest in it. Beside slow
    ones alone, it may take all of the time, as long as it is not much slower than they were: where the line of the
    shop is what is slow, all are.

    Args:
        tries: the history of each address.
        address: the one that is asked.
        left_bytes: what is missing.
        left_seconds: the time of this run that is left.
        minimum_rate: bytes per second that any address must bring.
        most_rate: the limit of this terminal, which makes nobody slow; 0 for none.
    """
    others = [found for name, found in tries.items() if name != address and not found.closed]
    slow = [found.slow_rate for found in others if found.slow_rate is not None]
    seconds, wanted = left_seconds, max(slow, default=0.0) / 2
    if len(slow) < len(others):
        seconds = left_seconds / (1 + len(others) - len(slow))
        wanted = max(wanted, left_bytes / max(seconds, 0.001))
    if most_rate:
        wanted = min(wanted, most_rate / 2)
    return Terms(seconds, max(minimum_rate, wanted))


def next_address(order: Sequence[str], tries: Mapping[str, Tries], last: str | None) -> str | None:
    """Return the address to ask next, None if all are closed.

    One that brought nothing, or that was too slow, gives way to the others; of those that were too slow the fastest
    comes first.
    """
    open_ = [address for address in order if not tries[address].closed]
    if not open_:
        return None
    if last in open_ and tries[last].empty_count == 0 and tries[last].slow_rate is None:
        return last

    def rank(address: str) -> tuple[bool, float, int]:
        found = tries[address]
        return found.slow_rate is not None, -(found.slow_rate or 0.0), found.empty_count

    if last in open_ and tries[last].empty_count > 0:
        open_ = [address for address in open_ if address != last] or open_
    return min(open_, key=rank)


def retry_seconds(empty_count: int, *, base_seconds: float, chance: float) -> float:
    """Return how long to wait before the next try: longer each time, and never the same for all terminals.

    Args:
        empty_count: tries in a row that brought nothing.
        base_seconds: the wait after the first.
        chance: a random number from 0 to 1.
    """
    return float(min(base_seconds * 2 ** max(0, empty_count - 1), LONGEST_RETRY_SECONDS) * (0.5 + chance))


class Health(NamedTuple):
    """Record of an address that failed; an address without one is well."""

    failures_count: int
    """Runs in a row."""
    until: float
    """Time (seconds since 1970) before which others come first."""
    asked: bool
    """Whether the server asked to be left alone until then: it is."""
    answer: str
    detail: str


def ordered(
    addresses: Sequence[str], health: Mapping[str, Health], *, now: float, longest_seconds: float
) -> tuple[list[str], list[str]]:
    """Return the addresses to ask, in order, and those that asked to be left alone.

    A time further ahead than any record may reach was written with a clock that ran ahead: it counts for nothing.
    """

    def away(address: str) -> bool:
        found = health.get(address)
        return found is not None and now < found.until <= now + 2 * longest_seconds

    alone = [address for address in addresses if away(address) and health[address].asked]
    rest = [address for address in addresses if address not in alone]
    return sorted(rest, key=away), alone


def failed(
    before: Health | None, *, answer: Answer, detail: str, wait_seconds: float | None, now: float,
    longest_seconds: float, chance: float,
) -> Health:  # fmt: skip
    """Return the record of an address after a run in which it failed.

    Args:
        before: its record.
        answer: the result.
        detail: the cause.
        wait_seconds: how long the server asked to be left alone; None if it did not.
        now: seconds since 1970.
        longest_seconds: the longest time that an address is left alone, whatever it asks.
        chance: a random number from 0 to 1.
    """
    count = (before.failures_count if before is not None else 0) + 1
    pause = min(FIRST_PAUSE_SECONDS * 2 ** min(count - 1, 16), longest_seconds) * (0.75 + chance / 2)
    if wait_seconds is not None:
        # Later than the others by chance: all terminals of a vendor may have been told the same second.
        pause = max(min(wait_seconds, longest_seconds) * (1 + chance / 4), 1.0)
    return Health(count, now + pause, wait_seconds is not None, str(answer), detail)
