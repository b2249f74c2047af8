"""The effects on counters: their marks outside the database, and a copy with raised counters for a restore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.backups import bundled_migrations, catalog, compression, snapshot
from dbsync.counters import decisions, explanation, marks, reading
from dbsync.counters.declaration import Counter, Gaps, Holds
from dbsync.counters.marks import Mark, Marks
from dbsync.database import preflight
from dbsync.database.shared import Shared, timestamp
from dbsync.errors import Damaged, Refused, TillkeeperError, TryLater, UnreadableFile
from dbsync.model import BackupKind, Gap, Intent, Migration, Raised, SchemaNumber, State
from dbsync.progress import WorkPhase
from dbsync.storage import connections, files, temporary_files
from dbsync.storage.connections import Connection
from dbsync.storage.introspection import version_of
from dbsync.upgrade.outcome_record import FlightEvent

Numbers = Mapping[str, int | None]
"""Numbers of counters by their names; None: no number yet."""
_SETTLES: Final = (
    "`dbsync counters --raise {name} --database {database}` uses it,"
    " `dbsync counters --forget {name} --database {database}` gives it up"
)


class Found(NamedTuple):
    """The counters of a file, and how high they must be."""

    version: SchemaNumber
    counters: tuple[Counter, ...]
    numbers: Mapping[str, int | None]
    """Of the counters that are in its schema; None: no number yet."""
    highs: Mapping[str, decisions.High]

    @property
    def lower(self) -> Mapping[str, decisions.High]:
        """The counters that must be raised."""
        return decisions.lower(self.numbers, self.highs)


class Shown(NamedTuple):
    """A counter of the live database."""

    counter: Counter
    number: int | None
    """Its number now; None: it has none yet."""
    mark: Mark | None
    """How high it was ever seen; None: not yet."""


class Counting(Shared):
    """The effects on counters."""

    _marks_lost = False
    """Whether the file of the marks could not be read: the numbers in all copies count in its place."""

    @property
    def marks_path(self) -> Path:
        """The file of the marks."""
        return marks.path_of(backups=self.backups, database=self.database)

    def note_counters(self, migrations: tuple[Migration, ...]) -> None:
        if not self._reads_only:
            self._noted(migrations, self._live_numbers)

    def raise_counters(
        self, *, source: Path, backup: Path, kept: Path | None, migrations: tuple[Migration, ...], operation: str
    ) -> Raised | None:
        numbers_of: Callable[[Marks], Numbers | None] = self._live_numbers
        if kept is not None and files.is_there(catalog.find(kept)):
            numbers_of = partial(self._numbers_in, kept)
        now, seen = self._noted(migrations, numbers_of)
        with compression.plain(source) as plain:
            found = self._found(plain, now, seen)
            for text in not_believed(self.database, found.highs.items()):
                self.record(FlightEvent.MARK_NOT_BELIEVED, text=text)
            if not found.lower:
                return None
            why = explanation.Why(
                operation, temporary_files.owner_of(self.database), timestamp(), str(backup), str(kept or "")
            )
            report = self._explained(why, found)
            try:
                return Raised(self._raised(source, plain, found), _gaps(found), report)
            except BaseException:
                if report is not None:
                    explanation.remove(report)
                raise

    def counters_raised(self, raised: Intent) -> None:
        folder = Path(raised.gaps) if raised.gaps is not None else None
        with suppress(TillkeeperError):
            if folder is not None:
                explanation.finish(folder=folder, at=timestamp(), database=self.database)
        text = "counters were raised, so that no number is given out twice" + (f": {folder}" if folder else "")
        self.record(FlightEvent.COUNTERS_RAISED, text=text, report=raised.gaps)

    def would_raise(self, backup: Path) -> bool:
        """Return whether a restore of a backup, as it is, would need a copy of it with raised counters.

        Raises:
            TillkeeperError: the backup or the marks cannot be read now.
        """
        known = self._marks() or Marks()
        with compression.plain(backup) as plain:
            return bool(self._found(plain, known, self._live_numbers(known)).lower)

    def raise_in_new(self, connection: Connection, *, into: Path) -> Raised | None:
        """Raise the counters of the new file of a repair, which is open; the database itself may be unreadable.

        Raises:
            TillkeeperError: a counter cannot be raised, or the marks cannot be read.
        """
        known = self._marks() or Marks()
        found = _judged(connection, known, self._seen_in_copies(known))
        if not found.lower:
            return None
        with connections.translated("raise the counters", into, otherwise=Refused):
            reading.raise_counters(connection, found.counters, found.lower)
        owner = temporary_files.owner_of(self.database)
        why = explanation.Why(f"repair into {into}", owner, timestamp(), str(self.database), str(self.database))
        return Raised(into, _gaps(found), self._explained(why, found))

    def gaps(self) -> list[explanation.Explained]:
        """Return the explanations of skipped numbers, oldest first."""
        found = explanation.listed(self._reports, owner=temporary_files.owner_of(self.database))
        known = {explained.folder for explained in found}
        # A terminal keeps its reports elsewhere; the record of its runs names them.
        recorded = [line.get("report") for line in self._flight.lines() if line.get("report")]
        others = {Path(str(folder)) for folder in recorded} - known
        found += [explained for folder in others if (explained := explanation.read(folder)) is not None]
        return sorted(found, key=lambda explained: explained.why.at)

    def counters(self) -> list[Shown]:
        """Return the counters of the database with their numbers and marks; changes nothing.

        Raises:
            TillkeeperError: the database or the marks cannot be read.
        """
        known = marks.read(self.marks_path) or Marks()
        with self._reading("read the counters") as live:
            connections.tolerate(live)
            version = version_of(live)
            found = reading.with_marks(live, known.at(version))
            numbers = reading.numbers(live, found, strictly=False)
        return [
            Shown(counter, numbers[counter.name], known.of(counter, version))
            for counter in found
            if counter.name in numbers
        ]

    def raise_to_mark(self, name: str) -> Raised | None:
        """Raise a counter of the live database to its mark, also to one that is too high to be believed without a word.

        Raises:
            CounterNotRaised: there is no such counter, or it cannot be raised.
            TillkeeperError: the database cannot be written now; nothing was changed.
        """
        shown = self._named(name)
        if shown.mark is None or shown.mark.number <= (shown.number or 0):
            return None
        wanted = {shown.counter.name: decisions.High(shown.mark.number)}
        with connections.translated("read the counters", self.database):
            version = self.look().version
        found = Found(version, (shown.counter,), {shown.counter.name: shown.number}, wanted)
        owner = temporary_files.owner_of(self.database)
        why = explanation.Why("raised by a person", owner, timestamp(), str(self.database), "")
        report = self._explained(why, found)
        try:
            self._raise(self.database, found)
        except BaseException:
            if report is not None:
                explanation.remove(report)
            raise
        self.counters_raised(Intent("counters", str(self.database), gaps=str(report) if report is not None else None))
        return Raised(self.database, _gaps(found), report)

    def forget_mark(self, name: str) -> Shown:
        """Give the mark of a counter up: its number in the database is the mark from now on.

        Raises:
            CounterNotRaised: there is no such counter.
            TillkeeperError: the marks cannot be written now; nothing was changed.
        """
        shown = self._named(name)
        known = marks.read(self.marks_path) or Marks()
        for forgotten in known.names_of(shown.counter, self.look().version):
            known = known.without(forgotten)
        known = known.with_numbers({shown.counter.name: shown.number}, timestamp())
        marks.write(known, path=self.marks_path, database=self.database)
        before = shown.mark.number if shown.mark is not None else None
        self.record(FlightEvent.MARK_FORGOTTEN, text=shown.counter.name, before=before, after=shown.number)
        return self._named(name)

    def _named(self, name: str) -> Shown:
        found = self.counters()
        for shown in found:
            if shown.counter.name.lower() == name.lower():
                return shown
        known = ", ".join(shown.counter.name for shown in found) or "none"
        raise reading.CounterNotRaised(
            operation="find the counter", path=self.database, cause=f"there is no {name}; there are: {known}",
            hint="`dbsync counters --database FILE` lists them.",
        )  # fmt: skip

    # the marks --------------------------------------------------------------------------------------------------

    def _marks(self) -> Marks | None:
        """Return the marks; None if there are none. A damaged file is kept aside: what is seen in databases counts.

        Raises:
            TryLater: they cannot be read now.
        """
        try:
            return marks.read(self.marks_path)
        except UnreadableFile as error:
            if self._reads_only:
                raise
            kept = marks.set_aside(self.marks_path, files.utc_stamp(datetime.now(UTC)))
            self._marks_lost = True
            text = f"{error.cause}; the file is kept: {kept}. The numbers in the databases and copies here are used."
            self.record(FlightEvent.MARKS_DAMAGED, text=text)
            return None

    def _noted(
        self, migrations: tuple[Migration, ...], numbers_of: Callable[[Marks], Numbers | None]
    ) -> tuple[Marks, Numbers | None]:
        """Write the marks, if anything is new, and return them with the numbers that were read now."""
        on_disk = self._marks()
        if on_disk is None and not migrations:
            migrations = self._newest_bundled()
        now = (on_disk or Marks()).with_release(migrations)
        if self._marks_lost:
            now = now.with_numbers(self._seen_in_copies(now), timestamp())
            self._marks_lost = False
        numbers = numbers_of(now)
        now = now.with_numbers(numbers or {}, timestamp())
        if now != (on_disk or Marks()):
            marks.write(now, path=self.marks_path, database=self.database)
        return now, numbers

    def _newest_bundled(self) -> tuple[Migration, ...]:
        """Return the migrations of the newest release that is kept beside a backup; none if there is none."""
        found: list[tuple[Migration, ...]] = [()]
        for backup in catalog.list_backups(backups=self.backups, database=self.database):
            with suppress(TillkeeperError):
                found.append(bundled_migrations.beside(backup.path))
        return max(found, key=len)

    def _live_numbers(self, known: Marks) -> Numbers | None:
        """Return the numbers in the live database; None if there is no database that can be read."""
        if self.look().state not in (State.OK, State.UNTRACKED):
            return None
        try:
            with self._reading("read the counters") as live:
                connections.tolerate(live)
                return _numbers(live, known)
        except Damaged:
            return None

    def _numbers_in(self, copy: Path, known: Marks) -> Numbers | None:
        """Return the numbers in a copy; None if it is damaged: what the marks and the other copies say counts."""
        try:
            with compression.plain(copy) as plain, _opened(plain) as connection:
                return _numbers(connection, known)
        except TryLater:
            raise
        except TillkeeperError:
            return None

    def _seen_in_copies(self, known: Marks) -> Numbers:
        """Return the highest number of each counter in the backups and copies; one that cannot be read is left out."""
        seen: Numbers = {}
        for backup in catalog.list_backups(backups=self.backups, database=self.database):
            if backup.path.suffix != catalog.COMPRESSED:
                with suppress(TillkeeperError):
                    seen = _highest(seen, self._numbers_in(backup.path, known) or {})
        return seen

    # raising ----------------------------------------------------------------------------------------------------

    def _found(self, plain: Path, now: Marks, seen: Numbers | None) -> Found:
        """Return the counters of a file, and how high they must be.

        The numbers in all copies here are read only if the replaced database could not be read, or if a mark is too
        high to be true beside what was read.
        """
        with _opened(plain) as connection:
            found = _judged(connection, now, seen or {})
            doubted = any(high.not_believed is not None for high in found.highs.values())
            if seen is None or doubted or self._marks_lost or not now.marks:
                found = _judged(connection, now, _highest(seen or {}, self._seen_in_copies(now)))
        return found

    def _explained(self, why: explanation.Why, found: Found) -> Path | None:
        kinds = {counter.name: counter.gaps for counter in found.counters}
        recorded = tuple(gap for gap in _gaps(found) if kinds[gap.counter] is Gaps.RECORD)
        if not recorded:
            return None
        stamp = files.utc_stamp(datetime.now(UTC))
        return explanation.write(why, recorded, reports=self._reports, database=self.database, stamp=stamp)

    def _raised(self, source: Path, plain: Path, found: Found) -> Path:
        """Raise the counters in a scratch file, or in a copy of a backup under a final name, and return its path."""
        if _is_scratch(source):
            self._raise(source, found)
            files.sync_file(source)
            return source
        preflight.check_space_to_raise(database=self.database, source=plain, backups=self.backups)
        facts = catalog.read(catalog.find(source))
        kind = BackupKind.CARRIED if facts.kind == BackupKind.CARRIED else BackupKind.RAISED
        now = datetime.now(UTC)
        name = f"{self._prefix}-backup-{kind}-v{found.version}-{files.utc_stamp(now)}.db"
        final = catalog.free_name(self.backups, name)
        part = temporary_files.part_of(final, temporary_files.owner_of(self.database))
        try:
            snapshot.scratch_copy(source=plain, target=part, told=self._meter.phase(WorkPhase.COPY))
            self._raise(part, found)
            return snapshot.keep_part(snapshot.check_part(self._facts(part, kind, found.version, now))).path
        except BaseException:
            snapshot.drop_part(part)
            raise

    def _raise(self, path: Path, found: Found) -> None:
        with (
            connections.translated("raise the counters", path, otherwise=Refused),
            closing(connections.open_writing(path)) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            reading.raise_counters(connection, found.counters, found.lower)
            connection.execute("COMMIT")


@contextmanager
def _opened(path: Path) -> Iterator[Connection]:
    """A finished copy, open for reading; an error of SQLite is one of ours."""
    with (
        connections.translated("read the counters", path, otherwise=Refused),
        closing(connections.open_copy(path)) as connection,
    ):
        # A view that needs a newer SQLite does not keep anybody from the numbers.
        connections.tolerate(connection)
        yield connection


def _numbers(connection: Connection, known: Marks) -> Numbers:
    """Return the numbers of a database that is replaced, or kept: what it holds is not judged."""
    counters = reading.with_marks(connection, known.at(version_of(connection)))
    return reading.numbers(connection, counters, strictly=False)


def _highest(some: Numbers, others: Numbers) -> Numbers:
    found = dict(some)
    for name, number in others.items():
        known = found.get(name)
        found[name] = number if known is None else max(known, number or 0)
    return found


def _judged(connection: Connection, now: Marks, seen: Numbers) -> Found:
    """Return the counters of an open database, and how high they must be beside numbers seen elsewhere."""
    version = version_of(connection)
    counters = reading.with_marks(connection, now.at(version))
    numbers = reading.numbers(connection, counters)
    elsewhere = {name.lower(): number for name, number in seen.items()}
    highs = {}
    for counter in counters:
        found = [numbers.get(counter.name), *(elsewhere.get(name) for name in now.names_of(counter, version))]
        mark = now.of(counter, version)
        high = decisions.high(
            mark.number if mark is not None else None, [number for number in found if number is not None]
        )
        if high is not None:
            highs[counter.name] = high
    return Found(version, counters, numbers, highs)


def _is_scratch(path: Path) -> bool:
    return any(temporary_files.is_part(Path(part)) for part in path.parts)


def _gaps(found: Found) -> tuple[Gap, ...]:
    known = {counter.name: counter for counter in found.counters}
    return tuple(
        _gap(known[name], found.numbers[name], high.number, high.not_believed) for name, high in found.lower.items()
    )


def _gap(counter: Counter, number: int | None, raised_to: int, not_believed: int | None) -> Gap:
    first, last = (number or 0) + 1, raised_to
    if counter.holds is Holds.NEXT:
        first, last = 1 if number is None else number, raised_to - 1
    return Gap(counter.name, counter.description, number, raised_to, first, last, not_believed)


def not_believed(database: Path, highs: Iterable[tuple[str, decisions.High]]) -> list[str]:
    """Return a sentence for each mark that is too high to be true, with the commands that settle it."""
    return [
        f"the mark of {name}, {high.not_believed}, is too high to be true beside {high.number}, and was not used: "
        + _SETTLES.format(name=name, database=database)
        for name, high in highs
        if high.not_believed is not None
    ]
