"""What revisions of Alembic's can hold and where they can lie: run as the real one would, or refused by name."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync.errors import BadMigrations
from dbsync.migrations import folder as migration_folder
from dbsync.progress import Event
from dbsync.schema.fingerprint import fingerprint
from dbsync.storage import connections
from tests.dbsync.migrations.engines.test_engines import Alembic
from tests.helpers.shop import ask, dump, effects, upgrade


@pytest.fixture
def project(tmp_path: Path) -> Alembic:
    return Alembic(tmp_path)


TABLE = '    op.create_table("q", sa.Column("id", sa.Integer))\n'


CONTEXT = """
    from alembic import context
    assert not context.is_offline_mode()
    assert context.get_x_argument(as_dictionary=True) == {}
"""
SESSION = """
    from sqlalchemy.orm import Session
    session = Session(bind=op.get_bind())
    session.execute(sa.text("CREATE TABLE q (id INTEGER)"))
    session.commit()
"""


@pytest.mark.parametrize(
    "body",
    [
        '    with op.get_context().autocommit_block():\n        op.execute("CREATE TABLE q (id INTEGER)")\n',
        '    op.execute("PRAGMA foreign_keys=OFF")\n' + TABLE + '    op.execute("PRAGMA foreign_keys = ON;")\n',
        '    assert not op.get_bind().execute(sa.text("PRAGMA foreign_keys")).scalar()\n' + TABLE,
        CONTEXT + TABLE,
        SESSION,
    ],
    ids=["autocommit block", "foreign keys off and on", "foreign keys asked", "context", "a session that commits"],
)  # fmt: skip
def test_what_revisions_ask_of_alembic_works_in_the_one_transaction(project: Alembic, body: str) -> None:
    project.revise("more", body)
    project.upgrade("+4")
    assert upgrade(project.database, migration_folder.load(project.scripts)[:4]).name == "UP_TO_DATE"
    before = dump(project.database)
    project.revise("bad", '    op.execute("INSERT INTO nowhere VALUES (1)")\n')
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert outcome.name == "MIGRATION_FAILED"
    assert "no such table: nowhere (line " in outcome.cause
    assert dump(project.database) == before, "all undone"
    found = migration_folder.load(project.scripts)[:5]
    assert upgrade(project.database, found).name == "MIGRATED"
    assert ask(project.database, "SELECT count(*) FROM sqlite_schema WHERE name = 'q'") == 1


def test_a_revision_that_leaves_the_process_has_failed_like_any_other(project: Alembic) -> None:
    project.revise("gone", TABLE + "    raise SystemExit(3)\n")
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert (outcome.name, "SystemExit: 3 (line 24)" in outcome.cause) == ("MIGRATION_FAILED", True), outcome.cause
    assert not ask(project.database, "SELECT count(*) FROM sqlite_schema")


def test_what_a_revision_prints_is_a_line_of_the_log(project: Alembic, capsys: pytest.CaptureFixture[str]) -> None:
    from dbsync.upgrade import coordinator

    project.revise("told", '    print("shelves", "and", "rows", sep="-")\n' + TABLE)
    heard: list[Event] = []
    assert coordinator.upgrade(
        effects(project.database, heard.append), migrations=migration_folder.load(project.scripts)
    ).ready
    assert "shelves-and-rows" in [one.text for one in heard]
    assert "shelves" not in capsys.readouterr().out, "which may be lines of JSON"


CONVENTION = """
[alembic.naming_convention]
uq = "uq_%(table_name)s_%(column_0_name)s"
fk = "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"
"""
BY_CONVENTION = """
    op.create_table("shelf", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text, unique=True))
    with op.batch_alter_table("sale") as batch:
        batch.create_foreign_key(None, "product", ["product_id"], ["id"])
"""
NO_LONGER = """
    with op.batch_alter_table("shelf") as batch:
        batch.drop_constraint("uq_shelf_name", type_="unique")
    with op.batch_alter_table("sale") as batch:
        batch.drop_constraint("fk_sale_product_id_product", type_="foreignkey")
        batch.create_foreign_key("by_hand", "product", ["product_id"], ["id"])
"""


def test_the_naming_convention_that_env_py_tells_alembic_stands_in_the_settings(project: Alembic) -> None:
    env = project.scripts / "env.py"
    names = re.findall(r'^(\w+) = (".*")$', CONVENTION, re.MULTILINE)
    said = "{" + ", ".join(f'"{name}": {text}' for name, text in names) + "}"
    metadata = f"import sqlalchemy\ntarget_metadata = sqlalchemy.MetaData(naming_convention={said})"
    env.write_text(env.read_text().replace("target_metadata = None", metadata))
    project.revise("named", BY_CONVENTION)
    project.revise("unnamed", NO_LONGER)
    project.upgrade("head")
    theirs = project.database.rename(project.database.with_name("theirs.db"))
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert (outcome.name, "Constraint must have a name" in outcome.cause) == ("MIGRATION_FAILED", True), outcome.cause
    (project.scripts / "engine.toml").write_text(CONVENTION)
    assert upgrade(project.database, migration_folder.load(project.scripts), again=True).name == "CREATED"
    with closing(connections.open_reading(project.database)) as one, closing(connections.open_reading(theirs)) as other:
        assert fingerprint(one) == fingerprint(other)
    for wrong in ("[alembic]\nnaming_convention = 3", "alembic = 3", "[alembic.naming_convention]\nuq = 3"):
        (project.scripts / "engine.toml").write_text(wrong)
        with pytest.raises(BadMigrations, match="naming_convention must be a table of strings"):
            migration_folder.load(project.scripts)


@pytest.mark.parametrize(
    ("spoil", "name", "cause"),
    [
        ("UPDATE alembic_version SET version_num = 'feed'", "HISTORY_DIFFERS", "revision feed, which is not here"),
        ("DELETE FROM alembic_version", "UNTRACKED", "says that it had 0 migrations, and its structure is that of 3"),
        ("ALTER TABLE alembic_version RENAME TO mine", "HISTORY_DIFFERS", "to be in mine (version_table)"),
    ],
)
def test_what_alembics_table_leaves_in_doubt_is_not_guessed(
    project: Alembic, spoil: str, name: str, cause: str
) -> None:
    project.upgrade("+3")
    with closing(sqlite3.connect(project.database)) as live, live:
        live.execute(spoil)
    before = dump(project.database)
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert (outcome.name, cause in outcome.cause) == (name, True), outcome.cause
    assert dump(project.database) == before


def last(project: Alembic) -> Path:
    (path,) = (project.scripts / "versions").glob("*_last.py")
    return path


def elsewhere(project: Alembic) -> None:
    shutil.move(project.scripts / "versions", project.scripts.parent / "other")


def below(project: Alembic) -> None:
    (project.scripts / "versions" / "y2024").mkdir()
    shutil.move(last(project), project.scripts / "versions" / "y2024")


def twice(project: Alembic) -> None:
    shutil.copy(last(project), last(project).with_name("copy.py"))


def parted(project: Alembic) -> None:
    (first,) = (project.scripts / "versions").glob("*_first.py")
    first.unlink()


def around(project: Alembic) -> None:
    (first,) = (project.scripts / "versions").glob("*_first.py")
    text = re.sub(
        r"^down_revision.*$", f'down_revision = "{last(project).stem[:12]}"', first.read_text(), flags=re.MULTILINE
    )
    first.write_text(text)
    shutil.copy(first, first.with_name("x.py"))
    first.with_name("x.py").write_text(re.sub(r"^revision.*$", 'revision = "end"', text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (elsewhere, r"no folder versions; other places \(version_locations\) are not read"),
        (below, "in folders within versions are not read"),
        (twice, "is in .* and in "),
        (parted, "depends on .*, which is missing from versions/"),
        (around, "depends on itself"),
    ],
)
def test_revisions_that_lie_where_they_are_not_read_are_missed(project: Alembic, spoil: object, cause: str) -> None:
    assert callable(spoil)
    spoil(project)
    with pytest.raises(BadMigrations, match=cause):
        migration_folder.load(project.scripts)


def test_the_folder_is_the_script_directory_with_or_without_env_py(project: Alembic) -> None:
    (project.scripts.parent / "alembic.ini").touch()
    with pytest.raises(BadMigrations, match=r"it has alembic.ini: .* its script_location"):
        migration_folder.load(project.scripts.parent)
    (project.scripts / "env.py").unlink()
    assert upgrade(project.database, migration_folder.load(project.scripts)).name == "CREATED"
