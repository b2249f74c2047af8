"""The flows of a terminal: agent, launcher and rollback; judged by really starting until it has settled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.drills.faults import kept_values, records
from tests.drills.faults.engine import Engine, Ran
from tests.drills.faults.flow import Command, Course, Flow
from tests.drills.faults.modes import Mode
from tests.drills.faults.pictures import (
    NoPicture,
    Picture,
    Receipt,
    databases_beside,
    in_words,
    kept_aside,
    missing_rows,
    picture,
    receipts_in,
    sales_lost,
    unfinished,
)
from tests.drills.faults.promises import Promise, Violation
from tests.drills.faults.stage import LAUNCH, SALES_PER_START, Stage, rollback_script, updater
from tests.drills.faults.terminal_scenes import COUNTER, GOOD, SCHEMAS, Scenes
from tests.drills.faults.trace_rules import FOLD, GENERAL, MOVE, SWAP, TRIAL
from tests.drills.faults.truth import Told, false_sentences, kept_files, opened

BOOTS_LIMIT: Final = 8
"""How many starts are tried before the judge says that it never settles."""
HEADER_BYTES: Final = 100
"""Of an SQLite database: its counters change with each copy."""


RAISED: Final = {COUNTER: "transactions", "transaction_items": "transaction_items"}
"""Counters that are raised, and the tables whose marks they are."""
RULES: Final = {"launch": TRIAL, "check": SWAP, "fold": FOLD, "move": MOVE}
"""The rules of flows by the first word of their names; the others obey those that all do."""
LOSSY: Final = 6
"""The exit status of a command that is done and lost something, to which a person agreed."""


class Spec(NamedTuple):
    """A flow in one line."""

    name: str
    scene: str
    command: Command
    starts_limit: int = 2
    """How many undisturbed starts it may take to settle."""
    repeat: bool = False
    """Whether a person repeats the command that did not succeed, before the first start."""
    raises: bool = False
    """Whether the database that it leaves must have higher counters than its backup, and an explanation of them."""


class Settled(NamedTuple):
    """The terminal after its starts."""

    opened: str
    starts_count: int
    """0: it did not settle."""
    first_opened: str


class TerminalFlow(Flow):
    """A flow of one terminal."""

    def __init__(self, scenes: Scenes, spec: Spec) -> None:
        self._scenes: Final = scenes
        self._spec: Final = spec
        self._stage: Final[Stage] = scenes.stage
        self.engine: Engine = scenes.stage.engine
        self.name = spec.name
        self.folder = scenes.stage.till
        self.rules = RULES.get(spec.name.partition("-")[0], GENERAL)

    def reset(self) -> None:
        self._stage.reset(self._spec.scene)

    def command(self) -> Command:
        return self._spec.command

    def environment(self, boot: int) -> Mapping[str, str]:
        return self._stage.environment(boot)

    def recovery(self) -> Command:
        return self._spec.command if self._spec.repeat else updater(*LAUNCH)

    def grown(self, size_bytes: int) -> tuple[Flow, Path]:
        scene = self._scenes.grow(self._spec.scene, size_bytes)
        return TerminalFlow(self._scenes, self._spec._replace(scene=scene)), self._stage.database

    def state(self) -> str:
        return in_words(self._stage.database, self._stage.database.parent, self._stage.scratch)

    # ----------------------------------------------------------------------------------------------------- judging

    def judge(self, course: Course) -> list[Violation]:
        violations = self.command_violations(course.ran, "the command")
        held = receipts_in(self._stage.receipts)
        if course.fault.mode is Mode.PLUG:
            violations += self._whole_files() + self._records(course)
        now = self._picture()
        violations += self._whole_database(now)
        told = self._told(course.ran, now)
        boot = course.starts_before
        if self._spec.repeat and course.ran.exit_code not in (0, LOSSY) and not course.lasting:
            violations += self._repeat(boot)
        settled = self._settle(boot, violations)
        if course.again is None:
            told = told._replace(next_opened=settled.first_opened)
        violations += [Violation(Promise.TRUTH, sentence) for sentence in false_sentences(told)]
        violations += self._settled_state(settled, held)
        return violations

    def _repeat(self, boot: int) -> list[Violation]:
        """Run the command again, as a person does."""
        repeated = self.engine.run(self._spec.command, self.environment(boot))
        violations = self.command_violations(repeated, "the repeated command")
        if repeated.exit_code not in (0, LOSSY):
            violations.append(Violation(Promise.REPEATABLE, _tail(repeated)))
        told = self._told(repeated, self._picture())
        return violations + [
            Violation(Promise.TRUTH, f"the repeated command: {text}") for text in false_sentences(told)
        ]

    def _told(self, ran: Ran, now: Picture | None) -> Told:
        """Return what a command said, and the facts as they are before the next start."""
        before = self._scenes.before[self._spec.scene]
        changed = before.picture is not None and (now is None or now.rows != before.picture.rows)
        return Told(
            output=ran.output,
            exit_code=ran.exit_code,
            next_opened="",
            sold_since_backup=before.sold_since_backup,
            lost_count=sales_lost(before.picture, now),
            changed=changed and not opened(ran.output),
            missing_files=tuple(path for path in kept_files(ran.output) if not Path(path).exists()),
        )

    def _picture(self) -> Picture | None:
        try:
            return picture(self._stage.database, self._stage.scratch)
        except NoPicture:
            return None

    def _whole_files(self) -> list[Violation]:
        """Look at the disk right after the power was cut: a file under a final name is whole."""
        from dbsync.errors import TillkeeperError
        from updater.bundles.version_folders import Versions

        found = []
        versions = Versions(self._stage.till / "program")
        for name in versions.names():
            try:
                versions.check(versions.folder(name), versions.manifest(name))
            except TillkeeperError as cause:
                found.append(f"version folder {name}: {cause}")
        for path in (self._stage.till / "state").rglob("*.json"):
            if path.name.startswith(".new-") or "metadata" in path.parts:
                continue
            try:
                json.loads(path.read_bytes())
            except ValueError:
                found.append(f"{path.relative_to(self._stage.till)} is torn ({path.stat().st_size} bytes)")
        return [Violation(Promise.WHOLE, text) for text in found]

    def _records(self, course: Course) -> list[Violation]:
        """Look at what the records name and count, right after the power was cut."""
        till = self._stage.till
        found = [Violation(Promise.NAMED, text) for text in records.missing_folders(till)]
        if course.again is None:
            counted = records.uncounted_launches(till, self.engine.calls())
            found += [Violation(Promise.COUNTED, text) for text in counted]
        return found

    def _whole_database(self, now: Picture | None) -> list[Violation]:
        before = self._scenes.before[self._spec.scene].picture
        if before is None:
            return []
        if now is None:
            return [Violation(Promise.WHOLE, "the live database cannot be read")]
        return [Violation(Promise.WHOLE, problem) for problem in self._problems(now)]

    def _problems(self, now: Picture) -> list[str]:
        found = list(now.problems)
        different = self._scenes.objects.get(now.version, frozenset()) ^ now.objects
        if different:
            found.append(f"schema {now.version} has other objects than it should: {sorted(different)[:2]}")
        return found

    def _settle(self, boot: int, violations: list[Violation]) -> Settled:
        """Start the till in one boot after the other until it is open and the journal is at rest."""
        last = first = ""
        for number in range(1, BOOTS_LIMIT + 1):
            environment = self.environment(boot + number - 1)
            started = self.engine.run(updater(*LAUNCH), environment)
            violations += self.command_violations(started, f"start {number}")
            if started.hung:
                break
            if started.rang:
                continue
            last = opened(started.output)
            first = first or last
            if started.exit_code != 0 and not last and number == 1:
                violations.append(Violation(Promise.STARTS, f"the first start opens nothing: {_tail(started)}"))
            told = Told(started.output, started.exit_code, "")
            violations += [Violation(Promise.TRUTH, f"start {number}: {text}") for text in false_sentences(told)]
            checked = self.engine.run(updater("check"), environment)
            violations += self.command_violations(checked, f"check after start {number}")
            if last and self._phase() == "IDLE":
                return Settled(last, number, first)
        return Settled(last, 0, first)

    def _phase(self) -> str:
        try:
            return str(json.loads((self._stage.till / "state" / "journal.json").read_bytes())["phase"])
        except (OSError, ValueError, KeyError):
            return "no journal"

    def _settled_state(self, settled: Settled, held: Sequence[Receipt]) -> list[Violation]:
        found = []
        if settled.opened not in SCHEMAS:
            found.append(Violation(Promise.STARTS, "no version opens"))
        if not settled.starts_count:
            text = (
                f"not settled after {BOOTS_LIMIT} starts: journal {self._phase()}, {settled.opened or 'nothing'} opens"
            )
            found.append(Violation(Promise.SETTLES, text))
        elif settled.starts_count > self._spec.starts_limit:
            found.append(Violation(Promise.SETTLES, f"it took {settled.starts_count} starts"))
        now = self._picture()
        if now is None:
            return [*found, Violation(Promise.FITS, "the live database cannot be read")]
        found += [Violation(Promise.WHOLE, f"after settling: {problem}") for problem in self._problems(now)]
        found += self._counters(now, settled)
        if settled.opened in SCHEMAS and now.version != SCHEMAS[settled.opened]:
            found.append(Violation(Promise.FITS, f"{settled.opened} is open on schema {now.version}"))
        receipts = receipts_in(self._stage.receipts)
        if settled.opened and len(receipts) < len(held) + SALES_PER_START:
            found.append(Violation(Promise.STARTS, f"it sold {len(receipts) - len(held)} times only"))
        found += self._lost(now, receipts)
        return found + self._litter()

    def _counters(self, now: Picture, settled: Settled) -> list[Violation]:
        """Compare the counters with how high they were seen, and look for the explanation of those that were raised."""
        seen = self._scenes.before[self._spec.scene].seen
        found = [Violation(Promise.NUMBERS, text) for text in kept_values.lower(seen, now.numbers)]
        if self._spec.raises and settled.opened == GOOD.version:
            told = kept_values.explanations(self._stage.till)
            found += [
                Violation(Promise.EXPLAINED, f"{name} was raised to {seen[mark]}, and no explanation says so")
                for name, mark in RAISED.items()
                if not any(line.name == name and line.raised_to == seen[mark] for line in told)
            ]
        return found

    def _lost(self, now: Picture, receipts: Sequence[Receipt]) -> list[Violation]:
        """Compare what customers hold, and all other rows, with the live database and with what was put aside."""
        before = self._scenes.before[self._spec.scene]
        data = self._stage.database.parent
        if before.picture is None:
            at_start = receipts_in(self._stage.scenes / self._spec.scene / "receipts.txt")
            found = [] if self._has_ruin(before.ruin) else ["the ruined database was not kept"]
            receipts = [receipt for receipt in receipts if receipt not in at_start]
        else:
            found = missing_rows(before.picture, now)
        lost = [receipt for receipt in receipts if receipt not in now.receipts]
        if lost:
            aside = kept_aside(data, self._stage.database, self._stage.scratch)
            gone = [receipt for receipt in lost if receipt not in aside]
            found.append(f"{len(lost)} sales are not in the live database, {len(gone)} of them nowhere")
        return [Violation(Promise.NOTHING_LOST, text) for text in found]

    def _has_ruin(self, ruin: bytes) -> bool:
        """Return whether the bytes of the ruined database are still there; a copy has its own counters in front."""
        data = self._stage.database.parent
        files = [*databases_beside(data, self._stage.database), self._stage.database]
        return any(path.read_bytes()[HEADER_BYTES:] == ruin[HEADER_BYTES:] for path in files if path.exists())

    def _litter(self) -> list[Violation]:
        found = unfinished(self._stage.till)
        return [Violation(Promise.NO_LITTER, ", ".join(found[:4]))] if found else []


def _tail(ran: Ran) -> str:
    return f"exit status {ran.exit_code}, {ran.output.strip()[-240:]!r}"


def flows(stage: Stage) -> list[Flow]:
    """Build the scenes of a terminal and return its flows."""
    scenes = Scenes(stage)
    scenes.build()
    return [TerminalFlow(scenes, spec) for spec in specs(scenes.install_words())]


def specs(install_words: tuple[str, ...] = ()) -> list[Spec]:
    """Return the flows of a terminal."""
    launch: Callable[[], object] = updater(*LAUNCH)
    rollback: Callable[[], object] = updater("rollback", "--yes")
    ruined: Callable[[], object] = updater("rollback", "--yes", "--accept-loss")
    return [
        Spec("install", "install", updater(*install_words), repeat=True),
        Spec("check", "check", updater("check")),
        Spec("launch", "launch", launch),
        Spec("launch-wal", "launch-wal", launch),
        Spec("launch-fail", "launch-fail", launch),
        Spec("launch-crash", "launch-crash", launch),
        Spec("launch-crash-wal", "launch-crash-wal", launch),
        Spec("launch-exit", "launch-exit", launch),
        Spec("launch-down", "launch-down", launch, starts_limit=5),
        Spec("fold", "fold", updater("check")),
        Spec("fold-back", "fold-back", updater("check")),
        Spec("move", "move", updater("check")),
        Spec("move-begin", "move-begin", launch),
        Spec("rollback", "rollback", rollback),
        Spec("rollback-wal", "rollback-wal", rollback),
        Spec("rollback-script", "rollback", rollback_script("--yes")),
        Spec("rollback-repeat", "rollback", rollback, repeat=True),
        Spec("rollback-header", "rollback-header", ruined, repeat=True),
        Spec("rollback-pages", "rollback-pages", ruined, repeat=True),
        Spec("rollback-counter", "rollback-counter", ruined, repeat=True, raises=True),
    ]
