"""The flight recorder: the record of all runs, outside the database, because a restore rewinds the database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from dbsync.model import RunPhase, SchemaNumber, Tried
from dbsync.outcomes import Group, OutcomeName
from dbsync.storage import file_calls, files
from dbsync.storage.temporary_files import owner_of
from dbsync.upgrade.outcome_record import FlightEvent

NAME: Final = "dbsync-flight.jsonl"
SIZE_LIMIT_BYTES: Final = 500_000


class FlightRecorder:
    """An append-only file in the backups' folder; each line names its database."""

    def __init__(self, backups: Path, database: Path) -> None:
        self.path: Final = backups / NAME
        self._database: Final = database
        self._owner: Final = owner_of(database)

    def record(self, line: dict[str, Any]) -> None:
        """Append one line, durably; the file is rotated once when it has grown too large."""
        files.make_folder(self.path.parent, like=self._database)
        if files.size_of(self.path) > SIZE_LIMIT_BYTES:
            with files.disk_errors("rotate", self.path):
                files.replace(source=self.path, target=self.path.with_suffix(".jsonl.1"))
        whole = {"database": self._owner, **line}
        files.append_line(self.path, json.dumps(whole, ensure_ascii=False, sort_keys=True), like=self._database)

    def lines(self) -> list[dict[str, Any]]:
        """Return all records of this database, oldest first; a torn line is skipped."""
        found: list[dict[str, Any]] = []
        for path in (self.path.with_suffix(".jsonl.1"), self.path):
            try:
                texts = file_calls.read_bytes(path).split(b"\n")
            except OSError:
                continue
            for text in texts:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict) and line.get("database", self._owner) == self._owner:
                    found.append(line)
        return found

    def last_schema(self) -> SchemaNumber | None:
        """Return the schema that the newest run left, of those that left one; None if none is on record."""
        schemas = [line.get("after") for line in ended(self.lines())]
        return next(
            (SchemaNumber(schema) for schema in reversed(schemas) if isinstance(schema, int) and schema > 0), None
        )

    def tried(self, run: str) -> Tried:
        """Return how the last runs of that name ended: back as far as they failed alike, or did not end."""
        return tried_by(self.lines(), run)


def tried_by(lines: Iterable[Mapping[str, Any]], run: str) -> Tried:
    """Return how the last runs of that name ended, by the record."""
    ways: list[str] = []
    cut_count, open_now = 0, False
    for line in lines:
        if line.get("run") != run:
            continue
        if line.get("event") == FlightEvent.STARTED:
            cut_count += open_now
            open_now = True
        elif line.get("event") == FlightEvent.ENDED:
            cut_count, open_now = 0, False
            if _is_of_the_machine(line):
                continue
            way = f"{line.get('outcome')} {line.get('migration') or ''}: {line.get('cause')}"
            ways = [*ways, way] if _is_failure(line) and ways[-1:] in ([], [way]) else [way] * _is_failure(line)
    return Tried(len(ways), ways[-1] if ways else "", cut_count + open_now)


def ended(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the lines that record the end of a run, oldest first."""
    return [line for line in lines if line.get("event") == FlightEvent.ENDED]


def ran_out_of_space(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the last run that got past its checks ended for want of space: its backup was in vain."""
    ends = [line for line in ended(lines) if line.get("phase") != RunPhase.PREFLIGHT]
    return bool(ends) and ends[-1].get("outcome") == OutcomeName.NO_SPACE


def _is_of_the_machine(line: Mapping[str, Any]) -> bool:
    """Return whether a run ended for a cause of the machine, which says nothing for or against the release."""
    name = OutcomeName.__members__.get(str(line.get("outcome")))
    return name is not None and name.group is Group.LATER


def _is_failure(line: Mapping[str, Any]) -> bool:
    name = OutcomeName.__members__.get(str(line.get("outcome")))
    return name is not None and name.failed and name is not OutcomeName.COMMIT_FAILED
