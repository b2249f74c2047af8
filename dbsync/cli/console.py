"""Events for people, as the transcript of requirements S32 to S48, and for programs, as JSON lines."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TextIO, assert_never

from dbsync.outcomes import OutcomeName
from dbsync.progress import Event, EventKind
from dbsync.storage.connections import Thoroughness
from dbsync.storage.platform import this_platform

PLAIN: Final = {
    "\N{LEFT-POINTING MAGNIFYING GLASS}": "[?]", "\N{ROCKET}": "[>]", "\N{PACKAGE}": "[b]",
    "\N{WHITE HEAVY CHECK MARK}": "[ok]", "\N{MEMO}": "[m]", "\N{CROSS MARK}": "[!!]",
    "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}": "[i]",
    "\N{ANTICLOCKWISE DOWNWARDS AND UPWARDS OPEN CIRCLE ARROWS}": "[..]",
}  # fmt: skip
"""Replacements for signs that a console cannot show."""
BAR_CELLS: Final = 20
LINE_CELLS: Final = 78
PROSE_CELLS: Final = 100
"""Longest line on a wide terminal: the eye loses the way back to the next line after more."""
SHOWN_AFTER_SECONDS: Final = 0.4
"""A phase that is over sooner needs no bar."""
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORDS: Final = re.compile(r"(\s*)((?:`[^`]*`|(?<=\d) (?=(?:ms|s|min|h|MB|GB|rows?)\b)|\S)+)")
"""Words with the space before them: a command in backticks is one, and so is a number with its unit."""
_WEIGHTS: Final = {
    ("❌", "LOST:", "NOT ", "ROTTEN", "UNFINISHED", "refused:", "Error:", "IT WOULD FAIL", OutcomeName.STAYS): "1;31",
    ("⚠️", "going back would lose"): "1;35",
    ("✅ All", "nothing to say against it"): "1",
}  # fmt: skip
"""Beginnings of lines, and how a terminal shows them: select graphic rendition (ECMA-48, 8.3.117).

Yellow cannot be read on a light background; red and magenta can, on both.
"""
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


def printable(text: str) -> str:
    """Return a string without characters that steer a terminal or break a page: names come from databases and files."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def wrapped_at_words(line: str, cells: int, *, hang: int = 0) -> list[str]:
    """Return a line in parts that fit a terminal, the further ones indented; one that fits is left as it is.

    Text between backticks stays together, however long it is: it is a command to paste.

    Args:
        line: the line.
        cells: the width of the terminal.
        hang: the column at which further parts begin, where every word fits behind it; 0: two more than the first.
    """
    if cells_of(line) <= cells:
        return [line]
    if hang and hang + max(cells_of(word) for _, word in _WORDS.findall(line)) > cells:
        hang = 0
    deeper = " " * (hang or len(line) - len(line.lstrip()) + 2)
    parts = [""]
    for space, word in _WORDS.findall(line):
        if parts[-1].strip() and cells_of(parts[-1] + space + word) > cells:
            parts.append(deeper + word)
        else:
            parts[-1] += space + word
    return parts


def cells_of(text: str) -> int:
    """Return the width of a string on a terminal: a wide letter or sign takes two cells (unicode.org/reports/tr11)."""
    if text.isascii():
        return len(text)
    import unicodedata

    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def weighted(line: str, environment: Mapping[str, str]) -> str:
    """Return a line as a terminal shows it: what failed or was lost in red, what needs a look in magenta.

    Plain where the terminal says that it cannot (TERM), or a person asks for none (no-color.org).
    """
    if environment.get("NO_COLOR") or environment.get("TERM", "dumb") == "dumb":
        return line
    code = next((code for begins, code in _WEIGHTS.items() if line.lstrip().startswith(begins)), "")
    return f"\x1b[{code}m{line}\x1b[0m" if code else line


def say(line: str, stream: TextIO, *, exactly: bool = False, tail: str = "", hang: int = 0) -> None:
    """Print a line on any console, with letters for signs that its code page lacks.

    Args:
        line: the line; for a person `tail` stands at its end, or below it on a terminal that is too narrow for both.
        stream: where to.
        exactly: whether a program reads it.
        tail: the last part of a row of columns, such as a path.
        hang: the column of a value behind its name, as in `wrapped_at_words`.

    On a terminal it is wrapped at words and has the weight of its meaning. In a pipe or a file, and for programs
    (`exactly`), it is as it is.
    """
    line, tail = printable(line), printable(tail)
    whole = f"{line}  {tail}" if tail else line
    if not exactly and stream.isatty():
        columns = shutil.get_terminal_size().columns
        parts = [whole]
        if not tail or cells_of(whole) > columns:
            rows = [line, f"  {tail}"] if tail else [line]
            parts = [part for row in rows for part in wrapped_at_words(row, min(columns, PROSE_CELLS), hang=hang)]
        line = weighted("\n".join(parts), os.environ)
    else:
        line = whole
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:
        for sign, plain in PLAIN.items():
            line = line.replace(sign, plain)
        encoding = stream.encoding or "ascii"
        stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
