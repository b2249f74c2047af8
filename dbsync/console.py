"""Events as people read them: the transcript of the specification (1.3), and as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import Final, TextIO

from dbsync.progress import Event

PLAIN: Final = {
    "\N{LEFT-POINTING MAGNIFYING GLASS}": "[?]", "\N{ROCKET}": "[>]", "\N{PACKAGE}": "[b]",
    "\N{WHITE HEAVY CHECK MARK}": "[ok]", "\N{MEMO}": "[m]", "\N{CROSS MARK}": "[!!]",
    "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}": "[i]",
    "\N{ANTICLOCKWISE DOWNWARDS AND UPWARDS OPEN CIRCLE ARROWS}": "[..]",
}  # fmt: skip
"""What a console that cannot show a sign gets instead."""
BAR_CELLS: Final = 30


def lines_of(event: Event) -> list[str]:  # noqa: C901 - one case per kind of event
    """The lines of one event (spec S32 to S48); none for what people need not read."""
    number, name, text = event.number, event.name, event.text
    match event.kind:
        case "looked":
            return ["🔍 Database Version Check:", f"   Current: v{number}", f"   Latest:  v{event.total}"]
        case "started":
            return [f"🚀 Running {event.total} migration(s)..."]
        case "backup":
            return [f"📦 Backup created: {text}"]
        case "nothing_to_back_up":
            return ["📦 Nothing to back up: there was no database before"]
        case "integrity":
            return ["✅ Database integrity check passed"]
        case "migration":
            return [f"📝 Migration v{number}: {name}", f"   {text}"]
        case "log":
            return [text]
        case "version":
            return [f"✅ Database version updated to {number}"]
        case "migrated":
            return [f"✅ Migration v{number} completed successfully"]
        case "finished":
            return [
                f"✅ All {number} migration(s) completed successfully!",
                f"   Database updated from v{event.done} to v{event.total}",
                f"✅ Database initialized successfully (v{event.total}/{event.total})",
            ]
        case "up_to_date":
            return ["✅ Database is up to date!", f"✅ Database initialized successfully (v{number}/{event.total})"]
        case "ended" if name in ("RESTORED", "KEPT", "STAYS"):
            return [f"✅ {name}"]
        case "ended":
            return [f"❌ {name}: {text}", "   The database is as it was before."]
        case _:
            return []


class Transcript:
    """Prints events for people; a bar for copying where somebody watches a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: Final = stream or sys.stdout
        self._bars: Final = self._stream.isatty()

    def __call__(self, event: Event) -> None:
        if event.kind == "progress":
            self._bar(event)
            return
        for line in lines_of(event):
            say(line, self._stream)

    def _bar(self, event: Event) -> None:
        if not self._bars or not event.total:
            return
        cells = BAR_CELLS * event.done // event.total
        end = "\n" if event.done >= event.total else ""
        bar = "#" * cells + "." * (BAR_CELLS - cells)
        self._stream.write(f"\r   {event.name:<10} [{bar}] {100 * event.done // event.total:3d} %{end}")
        self._stream.flush()


class JsonLines:
    """Prints every event as one line of JSON."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: Final = stream or sys.stdout

    def __call__(self, event: Event) -> None:
        self._stream.write(json.dumps({"format": 1, **event._asdict()}, ensure_ascii=True) + "\n")
        self._stream.flush()


def say(line: str, stream: TextIO) -> None:
    """Prints a line on any console: signs that its code page lacks become letters."""
    try:
        stream.write(f"{line}\n")
    except UnicodeEncodeError:
        for sign, plain in PLAIN.items():
            line = line.replace(sign, plain)
        encoding = stream.encoding or "ascii"
        stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()
