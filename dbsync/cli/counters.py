"""`dbsync counters`: show the numbers that never run backwards, and settle a mark that is not believed."""

from __future__ import annotations

from pathlib import Path

import click

from dbsync.cli.output import tell
from dbsync.cli.shared import Place, as_json, ask, on_database, tell_json, yes_option
from dbsync.counters import declaration, explanation
from dbsync.database.counting import Counting, Shown
from dbsync.storage.locks import locked


@click.command("counters")
@click.option("--raise", "raised", metavar="NAME", help="Raise this counter to its mark.")
@click.option("--forget", "forgotten", metavar="NAME", help="Give up this counter's mark: its number now is the mark.")
@yes_option
@as_json
@on_database
def command(place: Place, *, raised: str | None, forgotten: str | None, yes: bool, as_json: bool) -> None:
    """Show the numbers that never run backwards, and every gap.

    Each is shown with its number in the database and the highest that was ever seen, which is kept outside it.
    """
    if raised is not None and forgotten is not None:
        raise click.UsageError("--raise and --forget exclude each other.")
    gaps: Path | None = None
    if raised is not None or forgotten is not None:
        question = f"Raise {raised} to its mark?" if raised is not None else f"Give up the mark of {forgotten}?"
        ask(question, operation="settle the counter", path=place.database, yes=yes, as_json=as_json)
        place.check_writable()
        with locked(place.database):
            gaps = _settle(place.effects(), raised=raised, forgotten=forgotten)
    effects = place.effects(reads_only=True)
    found, explained = effects.counters(), effects.gaps()
    if as_json:
        tell_json(
            {
                "counters": [_told(shown) for shown in found],
                "gaps": [explanation.as_json(gap) for gap in explained],
                "explanation": str(gaps) if gaps is not None else None,
            }
        )
        return
    for shown in found:
        tell(_line(shown))
    for line in (line for gap in explained for line in explanation.in_words(gap)):
        tell(line)


def _settle(effects: Counting, *, raised: str | None, forgotten: str | None) -> Path | None:
    if raised is not None:
        done = effects.raise_to_mark(raised)
        return done.report if done is not None else None
    if forgotten is not None:
        effects.forget_mark(forgotten)
    return None


def _told(shown: Shown) -> dict[str, object]:
    mark = shown.mark._asdict() if shown.mark is not None else None
    return {**declaration.as_json(shown.counter), "number": shown.number, "mark": mark}


def _line(shown: Shown) -> str:
    number = "no number yet" if shown.number is None else str(shown.number)
    mark = f"highest seen {shown.mark.number} ({shown.mark.at})" if shown.mark is not None else "no mark yet"
    return f"{shown.counter.name:<24} {number:>14}  {mark}  {shown.counter.description}"
