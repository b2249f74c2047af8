"""One course: a database goes up, is traded on, goes back, goes up again, and is judged after each step."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.downgrade import carry_back
from dbsync.errors import TillkeeperError
from dbsync.migrations import folder as migration_folder
from dbsync.migrations import runner
from dbsync.model import Carried, Migration
from dbsync.progress import nobody
from tests.drills.laws import judge, oracle, trade
from tests.drills.laws.cells import Picture, in_words, opened, picture
from tests.drills.laws.judge import Law, Violation
from tests.drills.laws.kept import CELLS, ROWS, kept_in
from tests.drills.laws.schemas import Schema, random_schema
from tests.drills.laws.steps import Step, random_step

ROUNDS: Final = 2


@dataclass
class Case:
    """Everything that one course needs, made from a seed; its texts say all of it."""

    seed: int
    schemas: list[Schema]
    """By version, from 1."""
    steps: list[Step]
    """`steps[n]` leads from version n + 1 to the next."""
    python: list[bool]
    bottom: int
    """The version to which it goes back."""
    fill: list[str]
    local_before: list[str] = field(default_factory=list)
    trades: list[list[str]] = field(default_factory=list)
    """On the newest version, for each round."""
    local_after: list[str] = field(default_factory=list)
    older_trade: list[str] = field(default_factory=list)
    hop: int | None = None
    """A version in between, at which it stops on the way up and on the way back."""

    @property
    def top(self) -> int:
        """The newest version."""
        return len(self.schemas)

    def texts(self) -> list[tuple[str, str]]:
        """Return the endings and the texts of all migrations."""
        first = "-- description: the first schema\n" + "\n".join(f"{s};" for s in self.schemas[0].statements()) + "\n"
        return [("sql", first), *(step.text(python=p) for step, p in zip(self.steps, self.python, strict=True))]

    def write(self, folder: Path) -> tuple[Migration, ...]:
        """Write the migrations and return them."""
        folder.mkdir(parents=True)
        for number, (ending, text) in enumerate(self.texts(), 1):
            (folder / f"{number:04d}_step.{ending}").write_text(text, encoding="utf-8")
        return migration_folder.load(folder)

    def in_words(self) -> str:
        """Return the whole case as text: migrations, and what was done when."""
        parts = [f"-- migration {number} ({ending})\n{text}" for number, (ending, text) in enumerate(self.texts(), 1)]
        lists = {
            f"on version {self.bottom}": [*self.fill, *self.local_before],
            **{f"on version {self.top}, round {n}": statements for n, statements in enumerate(self.trades, 1)},
            "added there by people": self.local_after,
            f"on version {self.bottom} after going back": self.older_trade,
        }
        parts += [
            f"-- {name}\n" + "\n".join(f"{s};" for s in statements) for name, statements in lists.items() if statements
        ]
        return "\n".join(parts) + (f"\n-- by way of version {self.hop}" if self.hop else "")


def case_of(seed: int) -> Case:
    """Make the case of a seed."""
    chance = random.Random(seed)
    schemas = [random_schema(chance)]
    steps = []
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        step = random_step(chance, schemas[-1])
        steps.append(step)
        schemas.append(step.after)
    bottom = chance.randint(1, len(steps))
    older, newest = schemas[bottom - 1], schemas[-1]
    case = Case(seed, schemas, steps, [chance.random() < 0.3 for _ in steps], bottom, trade.fill(chance, older, 6))
    if chance.random() < 0.4:
        case.local_before = trade.additions(chance, older, judge.EARLY)
    case.trades = [trade.edits(chance, newest, chance.randint(1, 8)) for _ in range(ROUNDS)]
    if chance.random() < 0.4:
        case.local_after = trade.additions(chance, newest, judge.LATE)
    case.older_trade = trade.edits(chance, older, chance.randint(1, 6))
    if len(schemas) - bottom > 1 and chance.random() < 0.5:
        case.hop = chance.randint(bottom + 1, len(schemas) - 1)
    return case


class Ended(NamedTuple):
    """The end of a course."""

    violations: list[Violation]
    checks: dict[Law, int]
    """How often each law was asked."""
    skipped: str = ""
    """Why the case is none: its own migrations do not run on its rows."""


class Course:
    """One case in a folder of its own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case: Final = case
        self.folder: Final = folder
        self.migrations: Final = case.write(folder / "migrations")
        self.older: Final = case.schemas[case.bottom - 1]
        self.newest: Final = case.schemas[-1]
        self.steps: Final = case.steps[case.bottom - 1 :]
        self.rowids: Final = judge.names_of(self.newest, "rowid")
        self.violations: Final[list[Violation]] = []
        self.checks: Final[dict[Law, int]] = {}
        self._files = 0

    # ---------------------------------------------------------------------------------------------------------- files

    def copy(self, path: Path) -> Path:
        """Return a copy of a database."""
        self._files += 1
        return Path(shutil.copy(path, self.folder / f"{self._files}-{path.name.partition('-')[2] or path.name}"))

    def up(self, path: Path, to: int | None = None) -> Path:
        """Return a copy that the product brought to a version, the newest by default."""
        made = self.copy(path)
        runner.migrate_up(made, self.migrations[: to or self.case.top])
        return made

    def up_alone(self, path: Path, *, kept_on_the_way: bool = False) -> Path | None:
        """Return a copy that was brought to the newest version without what is kept for it; None if that fails.

        What is kept for versions in between goes as well, unless it is `kept_on_the_way`.
        """
        made = self.copy(path)
        with closing(sqlite3.connect(made, isolation_level=None)) as connection:
            if kept_on_the_way and kept_in(path):
                connection.execute(f"DELETE FROM {ROWS} WHERE schema = ?", (self.case.top,))
                connection.execute(f"DELETE FROM {CELLS} WHERE row_id NOT IN (SELECT id FROM {ROWS})")
            else:
                for table in (CELLS, ROWS):
                    connection.execute(f"DROP TABLE IF EXISTS {table}")
        try:
            runner.migrate_up(made, self.migrations)
        except TillkeeperError:
            return None
        return made

    def down(self, now: Path, backup: Path, to: int) -> tuple[Path, list[Carried]] | None:
        """Return the older database; None if it could not be made, which breaks a law."""
        self._files += 1
        into, reports = self.folder / f"{self._files}-back.db", self.folder / f"{self._files}-reports"
        known = [migration for migration in self.migrations if migration.number <= picture(now).version]
        self.asked(Law.GOES_BACK)
        try:
            carried = carry_back.carry_back(
                tuple(known), now=now, backup=backup, into=into, reports=reports, told=nobody
            )
        except Exception as error:  # any exception breaks the law
            self.found(Law.GOES_BACK, f"to {to}: {type(error).__name__}: {error}")
            return None
        return carried.path, [carried]

    # --------------------------------------------------------------------------------------------------------- judging

    def asked(self, *laws: Law) -> None:
        """Count that a law was asked."""
        for law in laws:
            self.checks[law] = self.checks.get(law, 0) + 1

    def found(self, law: Law, text: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(law, text))

    def take(self, found: Iterator[Violation], *laws: Law) -> None:
        """Note violations."""
        self.asked(*laws)
        self.violations.extend(found)

    def check_sound(self, path: Path, what: str) -> None:
        """Ask SQLite, and every search index."""
        self.asked(Law.SOUND)
        problem = problem_of(path)
        if problem:
            self.found(Law.SOUND, f"{what}: {problem}")

    # ----------------------------------------------------------------------------------------------------------- steps

    def run(self) -> Ended:
        """Run the course."""
        start = self._start()
        if isinstance(start, str):
            return Ended([], {}, start)
        backup, base = start
        if self.case.local_before and not any(step.rows_change for step in self.steps):
            dropped = frozenset(t.name.lower() for t in self.older.tables if self.newest.table(t.number) is None)
            self.take(judge.local(judge.EARLY, picture(backup), picture(base), dropped), Law.LOCAL)
        self._identity(backup, base)
        for number, statements in enumerate(self.case.trades, 1):
            ended = self._round(number, backup, base, statements)
            if ended is None or self.violations:
                break
            backup, base = ended
        return Ended(self.violations, self.checks)

    def _start(self) -> tuple[Path, Path] | str:
        path = self.folder / "0-shop.db"
        try:
            runner.migrate_up(path, self.migrations[: self.case.bottom])
        except TillkeeperError as error:
            return f"the first schema: {error}"
        trade.perform(path, [*self.case.fill, *self.case.local_before])
        if problem_of(path):
            return f"the generator's own database: {problem_of(path)}"
        try:
            return path, self.up(path)
        except TillkeeperError as error:
            return f"its migrations do not run: {error}"

    def _identity(self, backup: Path, base: Path) -> None:
        """Going back at once gives the backup."""
        made = self.down(base, backup, self.case.bottom)
        if made is not None:
            self.take(judge.same_content(Law.IDENTITY, picture(backup), picture(made[0])), Law.IDENTITY)

    def _round(self, number: int, backup: Path, base: Path, statements: Sequence[str]) -> tuple[Path, Path] | None:
        now = self.copy(base)
        trade.perform(now, [*statements, *(self.case.local_after if number == 1 else [])])
        made = self._back(now, backup)
        if made is None:
            return None
        path, carried = made
        self._judge_back(path, backup=backup, base=base, now=now)
        up = self._again(path, now, backup, carried)
        self._further(path, now)
        return (path, up) if up is not None else None

    def _back(self, now: Path, backup: Path) -> tuple[Path, list[Carried]] | None:
        hop = self.case.hop
        if hop is None:
            return self.down(now, backup, self.case.bottom)
        between = self.up(backup, hop)
        first = self.down(now, between, hop)
        second = self.down(first[0], backup, self.case.bottom) if first is not None else None
        return (second[0], [*first[1], *second[1]]) if first is not None and second is not None else None

    def _judge_back(self, made: Path, *, backup: Path, base: Path, now: Path) -> None:
        pictures = {name: picture(path) for name, path in {"backup": backup, "base": base, "now": now}.items()}
        wanted = oracle.expected(self.older, self.steps, path=backup, **pictures)
        back = picture(made)
        found = judge.gone_back(
            judge.Back(
                self.older, self.newest, wanted, pictures["backup"], pictures["now"], back,
                oracle.numbered(back, self.older),
            )
        )  # fmt: skip
        self.take(iter([*found, *self._poorer(made, wanted, back)]), Law.PARTLY)
        self.take(iter(()), Law.UNTOUCHED, Law.LIVE, Law.STRANGE, Law.MARKS, Law.STRUCTURE, Law.SEARCH, Law.ORPHANS)
        self.check_sound(made, "gone back")

    def _poorer(self, made: Path, wanted: Sequence[oracle.Expected], back: Picture) -> Iterator[Violation]:
        rows = oracle.numbered(back, self.older)
        for table in wanted:
            if table.key and not back.orphans:
                for place, row in oracle.poorer(made, self.older, table, rows.keyed(table.number, table.key)):
                    better = in_words({str(name): exact for name, exact in row.items()})
                    yield Violation(Law.PARTLY, f"{table.name} {place}: {better} is possible")

    def _again(self, made: Path, now: Path, backup: Path, carried: Sequence[Carried]) -> Path | None:
        """Going up again gives everything that there was."""
        alone = self.up_alone(made)
        kept, newest = kept_in(made), picture(now)
        # A value that is kept for a version in between may have another name there, or be converted on the way up.
        on_the_way = self.up_alone(made, kept_on_the_way=True) if self.case.hop else alone
        if alone is not None and on_the_way is not None:
            self.take(judge.all_kept(newest, picture(on_the_way), kept, self.rowids), Law.PARKED)
        self.asked(Law.GOES_UP)
        try:
            up = self.up(made)
        except TillkeeperError as error:
            if alone is not None:
                self.found(Law.GOES_UP, str(error))
            return None
        said = frozenset(loss.table.lower() for each in carried for loss in each.losses) & _contentless(now)
        found = judge.same_content(Law.UP_AGAIN, newest, picture(up), rowids=self.rowids, said=said)
        self.take(found, Law.UP_AGAIN)
        self.check_sound(up, "gone up again")
        self._words(carried, made=made, backup=backup, up=up)
        return up

    def _words(self, carried: Sequence[Carried], *, made: Path, backup: Path, up: Path) -> None:
        """A loss since the backup is stated: it is kept, and the backup did not keep it yet."""
        self.asked(Law.WORDS)
        unreadable = _contentless(made) | _contentless(up)
        losses = [loss for each in carried for loss in each.losses if loss.table.lower() not in unreadable]
        earlier = [row.content for row in kept_in(backup)]
        kept = [row for row in kept_in(made) if row.content not in earlier]
        if bool(losses) != bool(kept):
            self.found(Law.WORDS, f"{kept[:2]} is kept, and the losses are {losses}")
        left = kept_in(up)
        if left:
            self.found(Law.WORDS, f"everything is live again, and still kept is {left[:2]}")

    def _further(self, made: Path, now: Path) -> None:
        later = self.copy(made)
        trade.perform(later, self.case.older_trade)
        alone, alone_later = self.up_alone(made), self.up_alone(later)
        if alone is None or alone_later is None:
            return
        self.asked(Law.GOES_UP)
        try:
            up = self.up(later)
        except TillkeeperError as error:
            self.found(Law.GOES_UP, f"after further trade: {error}")
            return
        further = judge.Further(
            picture(now), picture(alone), picture(alone_later), picture(up), kept_in(up), self.rowids
        )
        found = judge.after_further_trade(further)
        self.take(found, Law.LATER_WINS, Law.NOT_SILENT)
        self.check_sound(up, "gone up after further trade")


def _contentless(path: Path) -> frozenset[str]:
    """Return the names of the search indexes whose entries cannot be read."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT lower(name) FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%' AND sql LIKE ?"
        return frozenset(name for (name,) in connection.execute(query, ("%content=''%",)).fetchall())


def problem_of(path: Path) -> str:
    """Return what SQLite finds wrong with a database, or with a search index in it; empty if nothing."""
    with closing(opened(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(3)").fetchall()
        if found != [(b"ok",)]:
            return str(found)
        searches = connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%fts5%content_rowid%'"
        ).fetchall()
        connection.execute("BEGIN")
        try:
            for (name,) in searches:
                table = f'"{name.decode()}"'
                connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            return f"{name.decode()}: {error}"
        finally:
            connection.execute("ROLLBACK")
    return ""


def shrunk(case: Case, law: Law, fails: Callable[[Case], bool]) -> Case:
    """Return a smaller case that breaks the same law: statements are left out as long as it still does."""
    assert law
    for name in ("local_before", "local_after", "older_trade", "fill"):
        case = _shorter(case, name, fails)
    for number in range(len(case.trades)):
        case = _shorter_trade(case, number, fails)
    return _shorter(case, "fill", fails)


def _shorter(case: Case, name: str, fails: Callable[[Case], bool]) -> Case:
    def made(statements: list[str]) -> Case:
        return replace(case, **{name: statements})  # type: ignore[arg-type]

    return made(_fewer(getattr(case, name), lambda statements: fails(made(statements))))


def _shorter_trade(case: Case, number: int, fails: Callable[[Case], bool]) -> Case:
    def made(statements: list[str]) -> Case:
        return replace(case, trades=[*case.trades[:number], statements, *case.trades[number + 1 :]])

    return made(_fewer(case.trades[number], lambda statements: fails(made(statements))))


def _fewer(statements: list[str], fails: Callable[[list[str]], bool]) -> list[str]:
    size = len(statements)
    while size:
        at = 0
        while at < len(statements):
            shorter = statements[:at] + statements[at + size :]
            if len(shorter) < len(statements) and fails(shorter):
                statements = shorter
            else:
                at += size
        size //= 2
    return statements
