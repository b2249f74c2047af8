"""Databases that real apps make with their own tools, which go on working on the newer schema, and after going back.

An app's own tool writes between the migration and the way back. What it wrote then stands in the older database to the
row: compared, by plain SQL, with the older columns of the newer one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from dbsync import api
from tests.drills.content import columns_by_table, content, differing
from tests.drills.real_course import course
from tests.drills.real_sources import run, unpacked
from tests.drills.real_story import FIRST, Shop

Tool = Callable[..., str]
"""Runs the app's tool with these words; what it printed."""


def there_and_back(shop: Shop, work: Callable[[], None], reads: Callable[[], str]) -> str:
    """Adopted, migrated, worked with by the app's own tool, and taken back; what was seen.

    Args:
        shop: where the database lies; the tool works on it in place.
        work: lets the tool write.
        reads: what the tool says about what is there.
    """
    said = reads()
    older = shop.adopt()
    columns = columns_by_table(shop.database)
    columns = {table: columns[table] for table in older.rows}
    plan = course(shop.database, gentle=True)
    outcome = shop.upgrade(plan)
    assert outcome["name"] == "MIGRATED", outcome
    assert reads() == said, "the tool sees the same on the newer schema"
    work()
    said_then = reads()
    assert said_then != said
    expected = content(shop.database, columns)
    written = [table for table, rows in expected.rows.items() if rows != older.rows[table]]
    assert written
    found = shop.dbsync("diff", "--json")
    assert found["lossless"], found
    assert {one["table"] for one in found["done"]} == set(written), (found["done"], written)
    returned = shop.dbsync("downgrade", "--yes", "--json")
    assert returned["outcome"]["name"] == "CARRIED_BACK", returned
    assert differing(expected._replace(objects=older.objects), content(shop.database)) == []
    assert reads() == said_then, "the tool sees all that it wrote"
    work()
    rows = sum(one.total() for one in older.rows.values())
    return (
        f"{len(older.rows)} tables, {rows} rows; {len(plan.steps)} migrations, then its own tool wrote"
        f" {', '.join(sorted(written))}: all carried back, the tool goes on"
    )


def trac(folder: Path) -> str:
    """The ticket system Trac: `trac-admin initenv`, then milestones, permissions, tickets and wiki pages."""
    python = environment(folder, "trac", "setuptools<81")
    place = folder / "story" / "shop"
    place.parent.mkdir()
    admin = [str(python.with_name("trac-admin")), str(place)]
    run([*admin, "initenv", "shop", "sqlite:db/trac.db"], folder=folder)
    shop = Shop(folder / "story", in_place=place / "db" / "trac.db")
    rounds = iter(range(9))

    def work() -> None:
        number = next(rounds)
        for words in (
            ["milestone", "add", f"Summer sale {number}"],
            ["component", "add", f"till {number}", "admin"],
            ["permission", "add", f"cashier{number}", "TICKET_CREATE"],
            ["wiki", "import", f"Öffnungszeiten{number}", __file__],
        ):
            run([*admin, *words], folder=folder)
        run([str(python), "-c", TICKETS, str(place)], folder=folder)

    def reads() -> str:
        listed = [run([*admin, one, "list"], folder=folder) for one in ("milestone", "component", "permission", "wiki")]
        return "".join(listed) + run([str(python), "-c", TICKETS_READ, str(place)], folder=folder)

    run([str(python), "-c", TICKETS, str(place)], folder=folder)
    return there_and_back(shop, work, reads)


TICKETS = """
import sys
from trac.env import Environment
from trac.ticket.model import Ticket
env = Environment(sys.argv[1])
for number in range(25):
    ticket = Ticket(env)
    ticket["summary"], ticket["reporter"], ticket["status"] = f"Scanner {number} beeps twice", "cashier", "new"
    ticket.insert()
    if number % 3 == 0:
        ticket["status"] = "closed"
        ticket.save_changes("admin", "a new one")
env.shutdown()
"""
TICKETS_READ = """
import sys
from trac.env import Environment
env = Environment(sys.argv[1])
print(env.needs_upgrade(), env.db_query("SELECT id, summary, status FROM ticket ORDER BY id"))
print(env.db_query("SELECT ticket, field, oldvalue, newvalue FROM ticket_change ORDER BY 1, 2"))
env.shutdown()
"""


def fossil(folder: Path) -> str:
    """The version control system Fossil, whose repository is a database: commits, users, wiki pages."""
    program = unpacked(folder, "fossil") / "usr" / "bin" / "fossil"
    libraries = [str(path.parent) for path in unpacked(folder, "libfuse2").rglob("libfuse.so.2")]
    place = folder / "story"
    checkout = place / "checkout"
    checkout.mkdir(parents=True)
    known = {**os.environ, "HOME": str(place), "USER": "cashier", "LD_LIBRARY_PATH": ":".join(libraries)}
    repository = place / "shop.fossil"

    def tool(*words: str) -> str:
        return run([str(program), *words], folder=checkout, environment=known)

    tool("new", str(repository))
    tool("open", str(repository))
    rounds = iter(range(9))

    def work() -> None:
        number = next(rounds)
        (checkout / f"prices{number}.txt").write_text(f"Bread {number}\n" * 50)
        tool("add", f"prices{number}.txt")
        tool("commit", "-m", f"prices of day {number}", "--no-warnings")
        tool("user", "new", f"cashier{number}", "x", "secret")
        (checkout / "page.txt").write_text("Öffnungszeiten")
        tool("wiki", "create", f"Hours {number}", "page.txt")

    def reads() -> str:
        sound = tool("test-integrity", "-R", str(repository))
        return sound + tool("timeline", "-n", "0", "-t", "ci") + tool("user", "list") + tool("wiki", "list")

    work()
    return there_and_back(Shop(place, in_place=repository), work, reads)


def coverage(folder: Path) -> str:
    """coverage.py's data file: recorded by `coverage run`, and more of it by `coverage run --append`."""
    place = folder / "story"
    place.mkdir(parents=True)
    (place / "shop.py").write_text("import sys\nif len(sys.argv) > 1:\n    print('open')\nelse:\n    print('closed')\n")
    tool = [sys.executable, "-m", "coverage"]
    rounds = iter(range(9))

    def work() -> None:
        words = ["open"][: next(rounds)]
        run([*tool, "run", "--branch", "--append", f"--context=day{len(words)}", "shop.py", *words], folder=place)

    def reads() -> str:
        return run([*tool, "report", "--show-missing"], folder=place)

    work()
    return there_and_back(Shop(place, in_place=place / ".coverage"), work, reads)


def anki(folder: Path) -> str:
    """Anki's collection has a collation of the app's own: named, and no obstacle to what leaves its tables alone."""
    python = environment(folder, "anki")
    place = folder / "story"
    place.mkdir()
    run([str(python), "-c", ANKI, str(place / "collection.anki2")], folder=folder)
    shop = Shop(place, in_place=place / "collection.anki2")
    shop.dbsync("write-schema", shop.migrations / FIRST)
    shop.dbsync("baseline", "--migrations", shop.migrations)
    (shop.migrations / "0002_more.sql").write_text("CREATE TABLE drill (id INTEGER PRIMARY KEY, words TEXT);\n")
    said = shop.dbsync("check", "--migrations", shop.migrations, "--database", shop.database)
    assert "collation unicase" in said, said
    outcome = api.run_migrations(database=shop.database, folder=shop.migrations)
    assert outcome.name == "MIGRATED", outcome
    return f"{outcome.name}; the collation unicase was named"


ANKI = """
import sys
from anki.collection import Collection
collection = Collection(sys.argv[1])
for number in range(50):
    note = collection.new_note(collection.models.by_name("Basic"))
    note["Front"], note["Back"] = f"word {number}", f"Wort {number}"
    collection.add_note(note, collection.decks.id("Default"))
collection.close()
"""


def environment(folder: Path, *packages: str) -> Path:
    """The Python of an environment of its own that has these packages."""
    place = folder / "environment"
    run([sys.executable, "-m", "venv", str(place)], folder=folder)
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], folder=folder)
    return python


TOOLS: dict[str, Callable[[Path], str]] = {"trac": trac, "fossil": fossil, "coverage": coverage, "anki": anki}
