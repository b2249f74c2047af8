"""The one write transaction on the database: begin, apply, verify, commit, and the check of the committed database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from dbsync.backups import snapshot
from dbsync.complement import kept
from dbsync.complement.put_back import PutBack, put_back
from dbsync.database.open_transaction import InPlace, OnCopy
from dbsync.database.shared import Shared, timestamp
from dbsync.errors import CommitFailed, Damaged, MigrationFailed, TillkeeperError, Unparsed, VerificationFailed
from dbsync.migrations import history, runner
from dbsync.migrations.engines import registry
from dbsync.migrations.history import HistoryKind, Release
from dbsync.migrations.local_additions import Known
from dbsync.migrations.write_log import Written, together
from dbsync.model import Backup, Migration, MigrationKind, SchemaNumber, Sha256, State, TrialId
from dbsync.progress import Event, EventKind, WorkPhase
from dbsync.storage import connections, file_calls, files
from dbsync.storage.background import Beside
from dbsync.storage.introspection import version_of
from dbsync.upgrade.outcome_record import FlightEvent
from dbsync.verification import checks, conservation

if TYPE_CHECKING:
    from io import BufferedReader

_BEFORE: Final = "before_migrations"
PROOF_WAITS_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long a committed database that cannot be read is waited for, until it counts as not proven."""


class Transaction(Shared):
    """The effects in the write transaction, and right after it."""

    _written: Written | None = frozenset()
    """The writes of the migrations of this run, as the authorizer saw them; None: unknown."""

    _saved: bool = False
    """Whether the transaction can return to the state before the migrations."""
    _trial: tuple[TrialId, Release] | None = None
    """The trial whose row was written."""
    _among: tuple[Migration, ...] = ()
    """All migrations of the release."""
    _digests: bool = False
    """Whether this run has committed, and its content is digested."""
    _digested: tuple[tuple[int, int], Sha256] | None = None
    """The state of the file and its digest, made during the check after COMMIT."""
    _vendor_names: Mapping[SchemaNumber, Known] | None = None
    """The names of the vendor's schema before and after each pending migration; None: not determined yet."""

    def begin(self) -> None:
        on_copy = any(migration.kind is MigrationKind.COMMAND for migration in self._pending)
        with connections.translated("open", self.database):
            if on_copy:
                self._begun = OnCopy(self.database, self._scratch("command"))
            else:
                self._begun = InPlace(self.database, tolerant=not self._pending)
            self._written = frozenset()
            self._saved, self._trial = False, None
            self._vendor_names = None

    def check_now(self) -> None:
        self._meter.phase(WorkPhase.CHECK)
        with connections.translated("check", self.database):
            check = connections.possible_check(self._open, self.thoroughness)
            problem = connections.check_soundness(self._open, check)
        if problem is not None:
            raise VerificationFailed(operation="check", path=self.database, cause=problem)
        self._tell(Event(EventKind.INTEGRITY, name=check))

    def apply(
        self, migration: Migration, among: tuple[Migration, ...], trial_id: TrialId | None, release: Release
    ) -> None:
        self._among = among
        if not self._saved and isinstance(self._begun, InPlace) and kept.exists(self._open):
            self._open.execute(f"SAVEPOINT {_BEFORE}")
            self._saved = True
        number, name = migration.number, migration.name
        self._tell(Event(EventKind.MIGRATION, number=number, name=name, text=migration.description))
        with connections.translated("migrate", self.database, otherwise=MigrationFailed):
            if self._vendor_names is None:
                self._vendor_names = runner.vendor_names(among, version_of(self._open))
            applied = runner.apply(
                self._open,
                migration,
                trial_id=trial_id,
                release=release,
                at=timestamp(),
                milliseconds=lambda: int(self.seconds() * 1000),
                log=lambda text: self._tell(Event(EventKind.LOG, text=text)),
                told=self._meter.phase(WorkPhase.MIGRATE, text=f"v{number} {name}"),
                known=self._vendor_names.get(number),
            )
        self._written = together(self._written, applied.written)
        self._tell(Event(EventKind.VERSION, number=number))
        self._tell(Event(EventKind.MIGRATED, number=number, name=name, seconds=applied.milliseconds / 1000))

    def note_history(self, *, kept: tuple[Migration, ...], blessed: tuple[Migration, ...]) -> None:
        self._refuse_unparsed(beside=True)
        self._write_history(kept, kind=HistoryKind.ADOPTED)
        self._write_history(blessed, kind=HistoryKind.BLESSED)

    def adopt(self, migrations: tuple[Migration, ...], *, kind: HistoryKind = HistoryKind.ADOPTED) -> None:
        self._refuse_unparsed(beside=False)
        self._refuse_unsound()
        self._write_history(migrations, kind=kind)
        with connections.translated("write the history", self.database):
            self._open.execute(f"PRAGMA user_version={migrations[-1].number if migrations else 0}")
            if migrations:
                self._tell_its_tool(migrations)

    def _refuse_unsound(self) -> None:
        """Refuse a database that is not sound.

        Writing into one whose list of free pages is damaged can make its file arbitrarily large.
        """
        with connections.translated("check", self.database, otherwise=VerificationFailed):
            problem = connections.check_soundness(self._open, self.thoroughness)
        if problem is not None:
            hint = "Nothing was changed. `dbsync repair` reads into a new file what can be read of it."
            raise Damaged(operation="adopt", path=self.database, cause=problem, hint=hint)

    def _tell_its_tool(self, migrations: tuple[Migration, ...]) -> None:
        """Record the migrations in the other tool's own table, where missing: it would run them again."""
        engine = registry.named(migrations[0].engine)
        said = engine.recorded(self._open, migrations)
        for migration in migrations:
            if said is None or migration.name not in said.names:
                engine.note(self._open, migration)

    def _write_history(self, migrations: tuple[Migration, ...], *, kind: HistoryKind) -> None:
        with connections.translated("write the history", self.database):
            history.make_tables(self._open)
            for migration in migrations:
                history.add_migration(
                    self._open,
                    migration,
                    kind=kind,
                    trial_id=None,
                    release=(None, None),
                    at=timestamp(),
                    duration_ms=0,
                )

    def _refuse_unparsed(self, *, beside: bool) -> None:
        """Refuse to write into a database of which this SQLite cannot parse a part.

        A row of the history can be written beside it: its pages are not free, and no statement of ours names it.

        Args:
            beside: whether only the history is written.

        Raises:
            Unparsed: more is written, or the history itself may have a part that is passed over.
        """
        if connections.is_tolerant(self._open) and not (beside and history.is_whole(self._open)):
            raise Unparsed(operation="write the history", path=self.database, cause=self.look().unparsed)

    def mark_trial(self, trial_id: TrialId, release: Release) -> None:
        self._refuse_unparsed(beside=True)
        with connections.translated("mark the trial", self.database):
            self._trial = trial_id, release
            history.add_trial(self._open, trial_id=trial_id, release=release, at=timestamp())

    def verify(self, migrations: tuple[Migration, ...], backup: Backup | None) -> None:
        with connections.translated("verify", self.database, otherwise=VerificationFailed):
            if backup is not None:
                connections.attach_copy(self._open, backup.path, conservation.OLD)
            told = self._meter.phase(WorkPhase.VERIFY)
            check = connections.possible_check(self._open, self.thoroughness)
            # Where no till waits, every reference is looked up, whatever is proven by other means.
            same: conservation.SameColumns | None = {} if self.thoroughness is connections.Thoroughness.QUICK else None
            case = checks.Case(self._open, migrations, backup is not None, self._written, told, check, same=same)
            checks.verify(case, checks.CHECKS)
        self._tell(Event(EventKind.INTEGRITY, name=check))

    def put_back(self, pending: tuple[Migration, ...]) -> None:
        with connections.translated("put back", self.database, otherwise=VerificationFailed):
            waiting = kept.waiting_schemas(self._open) & {migration.number for migration in pending}
            if not waiting:
                return
            if self._saved and waiting != {pending[-1].number}:
                done = self._repeated(pending)
            else:
                done = put_back(self._open, pending[-1].number)
        rowids = ", ".join(f"{moved.table}: {moved.rows_count}" for moved in done.moved)
        facts = {"moved_rowids": rowids} if rowids else {}
        self.record(FlightEvent.PUT_BACK, rows=done.rows_count, conflicts=len(done.conflicts), **facts)
        self._tell(Event(EventKind.LOG, text=f"put back {done.rows_count} rows that the older schema could not hold"))
        for conflict in done.conflicts:
            text = f"could not put back {conflict.table} {conflict.key}: {conflict.reason}; `dbsync kept` lists it"
            self._tell(Event(EventKind.LOG, text=text))
        for moved in done.moved:
            text = f"put back {moved.rows_count} rows of {moved.table} under other rowids: other rows have theirs now"
            self._tell(Event(EventKind.LOG, text=text))

    def _repeated(self, pending: tuple[Migration, ...]) -> PutBack:
        """Run the migrations again, which are verified by now, and put back after each what is kept for its schema.

        The verification compares every row with the backup, so the kept rows could not be there before it.
        """
        self._open.execute(f"ROLLBACK TO {_BEFORE}")
        trial_id, release = self._trial or (None, (None, None))
        done = PutBack()
        for migration in pending:
            self.apply(migration, self._among, trial_id, release)
            done += put_back(self._open, migration.number)
        if trial_id is not None:
            self.mark_trial(trial_id, release)
        problem = connections.check_soundness(self._open, self.thoroughness)
        if problem is not None:
            raise VerificationFailed(operation="verify", cause=f"the database would not be sound: {problem}")
        return done

    def commit(self) -> None:
        self._meter.phase(WorkPhase.COMMIT)
        with connections.translated("commit", self.database, otherwise=CommitFailed):
            assert self._begun is not None
            self._begun.commit()
            self._begun = None
            self._digests = True
        self._release_code()

    def rollback(self) -> None:
        self._release_code()
        begun, self._begun = self._begun, None
        if begun is None:
            return
        try:
            with connections.translated("undo", self.database):
                begun.rollback()
        finally:
            begun.close()

    def _release_code(self) -> None:
        """End the process for code: the app begins next, and may run for months."""
        # Earlier migrations may have run too, for the structure that they make.
        if any(migration.kind is MigrationKind.PYTHON for migration in (*self._pending, *self._among)):
            from dbsync.migrations import code_process

            code_process.release()

    def check_committed(self) -> None:
        self._meter.phase(WorkPhase.CHECK)
        for seconds in PROOF_WAITS_SECONDS:
            if self.look().state not in (State.UNAVAILABLE, State.LOCKED):
                break
            # Somebody reads what has just been written, such as a virus scanner: that says nothing about the release.
            time.sleep(seconds)
        try:
            problem = self._checked_and_digested() if self._digests and not self._side_files() else self._checked()
        except TillkeeperError as error:
            raise CommitFailed(operation="check", path=self.database, cause=error.cause) from error
        if problem is not None:
            raise CommitFailed(operation="check", path=self.database, cause=problem)

    def _checked(self) -> str | None:
        with self._reading("check") as live:
            return connections.check_soundness(live, self.thoroughness)

    def _checked_and_digested(self) -> str | None:
        """Check the database while its file is read for `content_digest`.

        The file is opened before SQLite opens it, and closed after SQLite has closed it: closing it earlier would drop
        the locks of the check (sqlite.org/howtocorrupt.html, 2.2).
        """
        with ExitStack() as stack:
            try:
                file = stack.enter_context(file_calls.open_to_read(self.database))
            except OSError:
                return self._checked()
            digest = stack.enter_context(Beside(lambda: self._digest_of(file)))
            problem = self._checked()
        # Without it, `content_digest` reads the file and raises the error: no digest does not mean no COMMIT.
        with suppress(TillkeeperError):
            self._digested = digest.result()
        return problem

    def _digest_of(self, file: BufferedReader) -> tuple[tuple[int, int], Sha256]:
        return files.state_of(self.database), files.sha256_of_open(file, self.database)

    def content_digest(self) -> Sha256 | None:
        if self._side_files():
            return None
        seen, digest = self._digested or (None, None)
        # A file that was written since is read again.
        return digest if seen == files.state_of(self.database) else files.sha256_of(self.database)

    def _side_files(self) -> int:
        return files.size_of(*snapshot.sidecars(self.database))
