"""Events for people, as the transcript of requirements S32 to S48, and for programs, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final, TextIO, assert_never

from dbsync.cli.lines import say
from dbsync.outcomes import OutcomeName
from dbsync.progress import Event, EventKind
from dbsync.storage.connections import Thoroughness
from dbsync.storage.platform import this_platform

BAR_CELLS: Final = 20
LINE_CELLS: Final = 78
SHOWN_AFTER_SECONDS: Final = 0.4
"""A phase that is over sooner needs no bar."""
_STEPS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def lines_of(event: Event) -> list[str]:  # noqa: C901 - one case per kind of event
    """Return the lines of one event (requirements S32 to S48); none for an event that people need not read."""
    number, name, text = event.number, event.name, event.text
    match event.kind:
        case EventKind.LOOKED:
            return ["🔍 Database Version Check:", f"   Current: v{number}", f"   Latest:  v{event.total}"]
        case EventKind.STARTED:
            expected = [f"   {about(event.seconds)}, by the last rehearsal"] if event.seconds else []
            return [f"🚀 Running {event.total} migration(s)...", *expected]
        case EventKind.BACKUP:
            return [f"📦 Backup created: {text}"]
        case EventKind.NOTHING_TO_BACK_UP:
            return ["📦 Nothing to back up: there was no database before"]
        case EventKind.INTEGRITY:
            # Only the check that deserves the name is called so.
            passed = {Thoroughness.FULL: "integrity check", Thoroughness.PAGES: "check of pages"}
            return [f"✅ Database {passed.get(Thoroughness(name), 'quick check')} passed"]
        case EventKind.MIGRATION:
            return [f"📝 Migration v{number}: {name}", f"   {text}"]
        case EventKind.LOG:
            return [text]
        case EventKind.VERSION:
            return [f"✅ Database version updated to {number}"]
        case EventKind.MIGRATED:
            return [f"✅ Migration v{number} completed successfully"]
        case EventKind.FINISHED:
            return [
                f"✅ All {number} migration(s) completed successfully!",
                f"   Database updated from v{event.done} to v{event.total}",
                f"✅ Database initialized successfully (v{event.total}/{event.total})",
            ]
        case EventKind.UP_TO_DATE:
            return ["✅ Database is up to date!", f"✅ Database initialized successfully (v{number}/{event.total})"]
        case EventKind.LOG_DAMAGED:
            return [f"⚠️ The -wal of the database is damaged: {text}"]
        case EventKind.COUNTERS_RAISED:
            return [f"🔢 {text}"]
        case EventKind.MARKS_DAMAGED:
            return [f"⚠️ The marks of the counters could not be read: {text}"]
        case EventKind.MARK_NOT_BELIEVED:
            return [f"⚠️ {text}"]
        case EventKind.BACKUP_ROTTEN:
            return [f"⚠️ A backup is not what was written: {text}"]
        case EventKind.SECOND_PLACE_AWAY:
            return [f"⚠️ The second place of backups is not complete: {text}"]
        case EventKind.ENDED:
            return _ended(name, text)
        case (
            EventKind.PROGRESS
            | EventKind.ADOPTED
            | EventKind.NOT_CARRIED
            | EventKind.NOT_NOTED
            | EventKind.NOT_EVALUATED
            | EventKind.PUT_BACK
            | EventKind.SIDE_FILES_KEPT
            | EventKind.MARK_FORGOTTEN
        ):
            return []
        case _:
            assert_never(event.kind)


def _ended(name: str, text: str) -> list[str]:
    """Return the lines for the end of a run: the second one says what became of the database."""
    if name in (OutcomeName.RESTORED, OutcomeName.CARRIED_BACK, OutcomeName.KEPT, OutcomeName.STAYS):
        return [f"✅ {name}"]
    if name == OutcomeName.RESTORED_WITH_LOSS:
        return [f"⚠️ {name}: {text}".rstrip(": "), "   What the live database lacks is kept beside it."]
    became = {
        str(OutcomeName.COMMIT_FAILED): "`dbsync status` tells which schema it has; the backup from before is kept.",
        str(OutcomeName.RESTORE_PENDING): "Nothing that was recorded is discarded.",
    }
    return [f"❌ {name}: {text}", f"   {became.get(name, 'The database is as it was before.')}"]


def command_line(words: Sequence[object]) -> str:
    """Return a command to paste, in which a name with spaces stays one word."""
    return this_platform().command_line([str(word) for word in words])


def about(seconds: float) -> str:
    """Return a time for people, no more exact than it is known: `about 40 s`, `about 3 min`, `about 2 h`."""
    if seconds < 1:
        return "about 1 s"
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.0f} h"


def lasted(seconds: float) -> str:
    """Return a time that was measured: `57 ms`, `12.3 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def rate(per_second: float, unit: str) -> str:
    """Return a rate for people: `412.0 MB/s`, `1.2 M rows/s`, `12 statements/s`."""
    step, sign = next((scale for scale in _STEPS if per_second >= scale[0]), _STEPS[-1])
    number = f"{per_second / step:.1f}" if sign or per_second < 10 else f"{per_second:.0f}"
    return f"{number} {sign}B/s" if unit == "bytes" else f"{number} {sign}{' ' if sign else ''}{unit}/s"


def bar(event: Event) -> str:
    """Return the line of a phase under way: progress, rate and remaining time; only its name without a total."""
    what = f"   {event.name}" + (f" ({event.text})" if event.text else "")
    if not event.total:
        return f"{what} ..."[:LINE_CELLS]
    part = min(1.0, event.done / event.total)
    cells = int(BAR_CELLS * part)
    line = f"   {event.name:<12} [{'#' * cells}{'.' * (BAR_CELLS - cells)}] {int(100 * part):3d} %"
    line += f"  {rate(event.per_second, event.unit)}" if event.per_second else ""
    line += f"  {about(event.remaining_seconds)} left" if event.remaining_seconds else ""
    return (line + (f"  {event.text}" if event.text else ""))[:LINE_CELLS]


class Bars:
    """Progress bars on an interactive terminal, each removed when its phase is over; nothing else is printed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: Final = stream or sys.stderr
        # A program without a console has no streams at all.
        self._watched: Final = bool(self._stream and self._stream.isatty())
        self._cells = 0

    def __call__(self, event: Event) -> None:
        """Draw the bar of a phase that goes on; any other event takes it away."""
        if event.kind is not EventKind.PROGRESS or event.done >= event.total:
            self.clear()
        elif self._watched and event.seconds >= SHOWN_AFTER_SECONDS:
            self._draw(bar(event))

    def clear(self) -> None:
        """Take the bar away."""
        self._draw("")

    def _draw(self, line: str) -> None:
        """Replace the line that is drawn; print nothing if there is neither an old nor a new line."""
        if not line and not self._cells:
            return
        end = "" if line else "\r"
        encoding = self._stream.encoding or "ascii"
        shown = line.encode(encoding, "replace").decode(encoding)
        self._stream.write(f"\r{shown:<{self._cells}}{end}")
        self._stream.flush()
        self._cells = len(line)


class Transcript(Bars):
    """A printer of events for people, with bars."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stdout)

    def __call__(self, event: Event) -> None:
        """Print the lines of an event, or draw the bar of a phase."""
        if event.kind is EventKind.PROGRESS and not event.total and self._watched:
            # Another event always follows, which removes this line.
            self._draw(bar(event))
            return
        super().__call__(event)
        for line in lines_of(event):
            say(line, self._stream)


class JsonLines:
    """A printer of every event as one line of JSON; it prints nothing without a stream."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: Final = stream

    def __call__(self, event: Event) -> None:
        """Print an event."""
        if self._stream is not None:
            self._stream.write(json.dumps({"format": 1, **event._asdict()}, ensure_ascii=True) + "\n")
            self._stream.flush()
