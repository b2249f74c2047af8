"""The addresses of a repository on this terminal: which are asked, in which order, and how they did before."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dbsync.errors import TillkeeperError
from updater.addresses import is_folder, shown
from updater.answers import Answer
from updater.decisions.transfer import Health, failed, ordered
from updater.network.http import Trouble
from updater.network.manner import Manner
from updater.network.record import in_words, read, write

LOCAL: Final = frozenset({Answer.CLOCK_SUSPECT, Answer.NO_SPACE, Answer.TROUBLE})
"""Results that say nothing about an address."""


class Addresses:
    """The addresses of a repository, with a small record of those that failed.

    Args:
        addresses: in the order of the settings.
        record: the file of the record. It holds no secret: addresses are written as people see them.
        manner: limits.
    """

    def __init__(self, addresses: Sequence[str], record: Path, manner: Manner) -> None:
        self._addresses: Final = tuple(dict.fromkeys(addresses))
        self._record: Final = record
        self._manner: Final = manner
        self._health: Final = read(record)
        self._before: Final = dict(self._health)
        self._saved: dict[str, Health] = dict(self._health)

    def in_order(self, *, folders_first: bool) -> list[str]:
        """Return the addresses to ask: those that are well first, else in the order of the settings.

        Args:
            folders_first: for archives: a stick costs no line. Metadata on a stick may be old: there folders come last.

        Raises:
            Trouble: all of them asked to be left alone.
        """
        sides = sorted(self._addresses, key=lambda address: is_folder(address) is not folders_first)
        health = {address: self._health[shown(address)] for address in sides if shown(address) in self._health}
        order, alone = ordered(sides, health, now=time.time(), longest_seconds=self._manner.give_up_seconds)
        if not order:
            first = min((health[address] for address in alone), key=lambda found: found.until)
            raise Trouble(
                Answer.SERVER_BUSY, f"it asked to be left alone until {in_words(first.until)}: {first.detail}"
            )
        return order

    def worked(self, address: str) -> None:
        """Record that an address did."""
        self._health.pop(shown(address), None)

    def failed(self, address: str, trouble: Trouble) -> None:
        """Record that an address failed, unless the cause is this terminal's."""
        if trouble.answer not in LOCAL:
            self._health[shown(address)] = failed(
                self._before.get(shown(address)), answer=trouble.answer, detail=trouble.detail,
                wait_seconds=trouble.wait_seconds, now=time.time(), longest_seconds=self._manner.give_up_seconds,
                chance=random.random(),  # noqa: S311 - it spreads terminals, and guards nothing
            )  # fmt: skip
            # Now: whatever ends this process later, the next one asks another address first.
            self.save()

    def save(self) -> None:
        """Write the record if it changed; one that cannot be written changes no result."""
        known = {shown(address) for address in self._addresses}
        kept = {address: found for address, found in self._health.items() if address in known}
        if kept == self._saved:
            return
        with suppress(TillkeeperError):
            write(self._record, kept)
            self._saved = kept

    def given_up(self, troubles: Sequence[tuple[str, Trouble]]) -> Trouble:
        """Return the result of a run in which no address brought what was asked for."""
        first = troubles[0][1]
        details = dict.fromkeys(trouble.detail for _, trouble in troubles)
        times = [self._health[shown(address)].until for address, _ in troubles if shown(address) in self._health]
        until = f"; gave up until {in_words(min(times))}" if times else ""
        return Trouble(first.answer, "; ".join(details) + until)
