"""Databases that Drizzle, Alembic or another tool has migrated so far: taken over, moved on, and the tool agrees."""

from __future__ import annotations

import io
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dbsync import api
from dbsync.errors import BadMigrations
from dbsync.lint import check
from dbsync.migrations import folder as migration_folder
from dbsync.migrations import runner
from dbsync.model import Outcome
from dbsync.schema.fingerprint import fingerprint
from dbsync.storage import connections
from dbsync.upgrade import coordinator
from tests.helpers import drizzle
from tests.helpers.shop import ask, dump, effects, upgrade, version


def filled(database: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(database)) as live, live:
        for statement in statements:
            live.execute(statement)
    return database


def names_of(outcome: Outcome) -> str:
    return f"{outcome.name} {outcome.cause}"


# ------------------------------------------------------------------------------------------------------------- Drizzle


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = drizzle.history(tmp_path / "drizzle")
    (folder / "engine.toml").write_text(DECLARED)
    return folder


DECLARED = """
[declared.0002_price_default]
changes = ["redefine products", "redefine products.price"]
"""


SHOP = (
    "INSERT INTO businesses VALUES ('b', 'Corner shop')",
    "INSERT INTO products (id, name, price, businessId) VALUES ('p1', 'tea', 250, 'b'), ('p2', 'bun', 90, 'b')",
    "INSERT INTO sales (productId, cents) VALUES ('p1', 250), ('p2', 90), ('p1', 250)",
)


def test_drizzles_own_migrator_and_dbsync_hand_a_database_to_and_fro(tmp_path: Path, history: Path) -> None:
    database = tmp_path / "pos.db"
    drizzle.migrate(database, drizzle.first(history, 2))
    filled(database, *SHOP)
    # Taken over where the tool left it: its table and the structure say the same.
    outcome = upgrade(database, migration_folder.load(drizzle.first(history, 3)))
    assert (outcome.name, outcome.version_before, outcome.version_after) == ("MIGRATED", 2, 3), names_of(outcome)
    # The rebuild of a parent took no child with it, and no link.
    assert ask(database, "SELECT count(*) FROM sales JOIN products ON products.id = productId") == 3
    rows = "SELECT group_concat(hash || created_at) FROM __drizzle_migrations"
    noted = ask(database, rows)
    drizzle.migrate(database, drizzle.first(history, 3))
    assert ask(database, rows) == noted, "the tool found nothing to do"
    # Forward with the tool itself: then the two histories differ, and that is said.
    drizzle.migrate(database, history)
    before = dump(database)
    outcome = upgrade(database, migration_folder.load(history))
    assert outcome.name == "MIGRATION_FAILED"
    assert "already exists" in outcome.cause
    assert dump(database) == before


def test_a_fresh_database_is_the_one_that_drizzle_makes(tmp_path: Path, history: Path) -> None:
    theirs, ours = tmp_path / "theirs.db", tmp_path / "ours" / "ours.db"
    ours.parent.mkdir()
    drizzle.migrate(theirs, history)
    assert upgrade(ours, migration_folder.load(history)).name == "CREATED"
    drizzle.migrate(ours, history)
    with closing(connections.open_reading(ours)) as one, closing(connections.open_reading(theirs)) as other:
        assert (
            fingerprint(one) == fingerprint(other) == runner.fresh_structure(migration_folder.load(history)).sentences
        )
    hashes = "SELECT group_concat(hash) FROM __drizzle_migrations"
    assert ask(ours, hashes) == ask(theirs, hashes)
    assert check.check(folder=history, released=(drizzle.first(history, 2),), scratch=tmp_path) == []


def test_what_drizzle_skips_for_ever_is_said_and_nothing_is_done(tmp_path: Path, history: Path) -> None:
    """A migration that came in between by a merge: drizzle-orm goes by the newest time stamp and never runs it."""
    database = tmp_path / "pos.db"
    drizzle.migrate(database, history)
    tag = migration_folder.load(history)[1].name
    filled(database, "DELETE FROM __drizzle_migrations WHERE rowid = 2")
    before = dump(database)
    drizzle.migrate(database, history)
    assert dump(database) == before, "the tool does not see it"
    outcome = upgrade(database, migration_folder.load(history))
    assert outcome.name == "UNTRACKED"
    assert f"never {tag}, which comes before it" in outcome.cause
    assert dump(database) == before


@pytest.mark.parametrize(
    ("spoil", "name", "cause"),
    [
        ("ALTER TABLE products ADD COLUMN shelf TEXT", "UNTRACKED", "nearest is schema 2, with column products.shelf"),
        ("DELETE FROM __drizzle_migrations WHERE rowid = 2", "UNTRACKED", "says that it had 1 migrations, and its"),
        ("INSERT INTO __drizzle_migrations (hash, created_at) VALUES ('f00', 9)", "HISTORY_DIFFERS", "hash f00"),
        ("PRAGMA user_version = 77", "UNTRACKED", "the app keeps 77 in user_version"),
    ],
)
def test_where_a_doubt_is_left_nothing_is_guessed(
    tmp_path: Path, history: Path, spoil: str, name: str, cause: str
) -> None:
    database = tmp_path / "pos.db"
    drizzle.migrate(database, drizzle.first(history, 2))
    filled(database, *SHOP, spoil)
    before = dump(database)
    outcome = upgrade(database, migration_folder.load(history))
    assert outcome.name == name
    assert cause in outcome.cause
    assert "dbsync " in outcome.hint, outcome.hint
    assert dump(database) == before
    assert not (tmp_path / "backups").exists() or not list((tmp_path / "backups").glob("*.db"))


# ------------------------------------------------------------------------------------------------------------- Alembic

REVISIONS = {
    "first": """
    op.create_table("product", sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False), sa.Column("price", sa.Float))
    op.create_table("sale", sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("product_id", sa.Integer, sa.ForeignKey("product.id", ondelete="CASCADE"), nullable=False))
""",
    "data": """
    op.bulk_insert(sa.table("product", sa.column("id"), sa.column("name"), sa.column("price")),
        [{"id": 1, "name": "tea", "price": 2.5}, {"id": 2, "name": "bun", "price": 0.9}])
""",
    "batch": """
    with op.batch_alter_table("product") as batch:
        batch.add_column(sa.Column("sku", sa.Text))
        batch.alter_column("price", existing_type=sa.Float, nullable=False)
        batch.create_unique_constraint("one_name", ["name"])
""",
    "last": """
    bind = op.get_bind()
    assert bind.execute(sa.text("SELECT count(*) FROM product")).scalar() == 2
    op.create_index("by_sku", "product", ["sku"])
""",
}


class Alembic:
    """A project of the real Alembic's."""

    def __init__(self, folder: Path) -> None:
        from alembic import command
        from alembic.config import Config

        self.command = command
        self.scripts = folder / "scripts"
        self.database = folder / "app.db"
        self.config = Config(folder / "alembic.ini", stdout=io.StringIO())
        command.init(self.config, str(self.scripts))
        self.config = Config(folder / "alembic.ini", stdout=io.StringIO())
        self.config.set_main_option("sqlalchemy.url", f"sqlite:///{self.database}")
        self.config.set_main_option("script_location", str(self.scripts))
        self.config.attributes["configure_logger"] = False
        env = self.scripts / "env.py"
        env.write_text(env.read_text().replace("if config.config_file_name is not None:", "if False:"))
        for name, body in REVISIONS.items():
            self.revise(name, body)

    def revise(self, name: str, body: str, *, head: str = "head", splice: bool = False) -> None:
        made = self.command.revision(self.config, message=name, head=head, splice=splice)
        assert made is not None
        assert not isinstance(made, list)
        path = Path(made.path)
        path.write_text(re.sub(r"(def upgrade.*?\n    \"\"\".*?\"\"\"\n)    pass\n", rf"\1{body}", path.read_text()))

    def upgrade(self, to: str) -> None:
        self.command.upgrade(self.config, to)


@pytest.fixture
def project(tmp_path: Path) -> Alembic:
    return Alembic(tmp_path)


def test_the_real_alembic_and_dbsync_hand_a_database_to_and_fro(project: Alembic) -> None:
    project.upgrade("+2")
    filled(project.database, "INSERT INTO sale VALUES (1, 1), (2, 2)")
    found = migration_folder.load(project.scripts)
    assert [one.name.partition("_")[2] for one in found] == list(REVISIONS)
    outcome = upgrade(project.database, found)
    assert (outcome.name, outcome.version_before, outcome.version_after) == ("MIGRATED", 2, 4), names_of(outcome)
    assert ask(project.database, "SELECT count(*) FROM sale JOIN product ON product.id = product_id") == 2
    head = found[-1].name.partition("_")[0]
    assert ask(project.database, "SELECT version_num FROM alembic_version") == head
    before = dump(project.database)
    project.upgrade("head")
    assert dump(project.database) == before, "the tool found nothing to do"


def test_a_revision_that_fails_leaves_nothing_where_alembic_leaves_half_of_it(tmp_path: Path) -> None:
    project = Alembic(tmp_path)
    project.revise(
        "half",
        """
    op.create_table("label", sa.Column("id", sa.Integer))
    op.execute("INSERT INTO label VALUES (1)")
    op.execute("INSERT INTO nowhere VALUES (1)")
""",
    )
    project.upgrade("+4")
    assert api.adopt_database(database=project.database, folder=project.scripts) == 4
    before = dump(project.database)
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert outcome.name == "MIGRATION_FAILED"
    assert "no such table: nowhere" in outcome.cause
    assert dump(project.database) == before
    copy = shutil.copyfile(project.database, tmp_path / "theirs.db")
    project.config.set_main_option("sqlalchemy.url", f"sqlite:///{copy}")
    with pytest.raises(Exception, match="nowhere"):
        project.upgrade("head")
    assert ask(Path(copy), "SELECT count(*) FROM sqlite_schema WHERE name = 'label'") == 1, "the peer's half"


def test_branches_run_parents_first_and_two_heads_are_refused(project: Alembic) -> None:
    base = migration_folder.load(project.scripts)[-1].name.partition("_")[0]
    project.revise("left", '    op.create_table("l", sa.Column("id", sa.Integer))\n', head=base)
    project.revise("right", '    op.create_table("r", sa.Column("id", sa.Integer))\n', head=base, splice=True)
    with pytest.raises(BadMigrations, match="2 heads"):
        migration_folder.load(project.scripts)
    project.command.merge(project.config, "heads", message="merged")
    found = migration_folder.load(project.scripts)
    assert [one.name.partition("_")[2] for one in found][-1] == "merged"
    assert upgrade(project.database, found).name == "CREATED"
    before = dump(project.database)
    project.upgrade("head")
    assert dump(project.database) == before


def test_reading_a_folder_and_a_start_with_nothing_to_do_import_no_alembic(project: Alembic) -> None:
    import subprocess
    import sys

    found = migration_folder.load(project.scripts)
    assert upgrade(project.database, found).name == "CREATED"
    text = (
        "import sys; from dbsync import api; "
        "assert api.run_migrations(database=sys.argv[1], folder=sys.argv[2]).name == 'UP_TO_DATE'; "
        "assert not {'alembic', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", text, project.database, project.scripts], check=True)


def test_a_sandbox_guards_alembics_revisions_too(tmp_path: Path) -> None:
    project = Alembic(tmp_path)
    project.revise("bad", '    op.execute("DELETE FROM product")\n')
    project.upgrade("+4")
    assert api.adopt_database(database=project.database, folder=project.scripts) == 4
    before = dump(project.database)
    outcome = upgrade(project.database, migration_folder.load(project.scripts))
    assert outcome.name == "VERIFICATION_FAILED"
    assert "product: 2 rows are gone" in outcome.cause
    (tmp_path / "scripts" / "engine.toml").write_text(
        f'[declared."{migration_folder.load(project.scripts)[-1].name}"]\nchanges = ["delete product"]\n'
    )
    assert dump(project.database) == before
    assert upgrade(project.database, migration_folder.load(project.scripts), again=True).name == "MIGRATED"


# -------------------------------------------------------------------------------------------------- plain numbered SQL


def numbered(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "engine.toml").write_text('engine = "numbered"\n')
    for name, text in files.items():
        ending = "" if name.endswith(("__SQL", "__go")) else ".sql"
        path = folder / f"{name.replace('__', '.')}{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


DBMATE = {
    "20240101_items": "-- migrate:up\nCREATE TABLE items (id INTEGER PRIMARY KEY);\n-- migrate:down\nDROP TABLE items;",
    "20240303_names": "-- migrate:up\nALTER TABLE items ADD COLUMN name TEXT;\n-- migrate:down\n",
}
GOLANG = {
    "1_items__up": "BEGIN;\nCREATE TABLE items (id INTEGER PRIMARY KEY);\nCOMMIT;\n",
    "1_items__down": "DROP TABLE items;",
    "2_names__up": "PRAGMA foreign_keys=OFF;\nALTER TABLE items ADD COLUMN name TEXT;\n",
}


@pytest.mark.parametrize(
    ("files", "past", "after"),
    [
        (
            DBMATE,
            ["CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)",
             "INSERT INTO schema_migrations VALUES ('20240101')"],
            "SELECT group_concat(version) = '20240101,20240303' FROM schema_migrations",
        ),
        (
            GOLANG,
            ["CREATE TABLE schema_migrations (version uint64, dirty bool)",
             "INSERT INTO schema_migrations VALUES (1, 0)"],
            "SELECT version = 2 AND dirty = 0 AND (SELECT count(*) FROM schema_migrations) = 1 FROM schema_migrations",
        ),
        (
            GOLANG,
            ["CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY, version_id INTEGER, is_applied INTEGER)",
             "INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1)"],
            "SELECT group_concat(version_id) = '0,1,2' FROM goose_db_version",
        ),
        (GOLANG, ["PRAGMA user_version = 1"], "SELECT user_version = 2 FROM pragma_user_version"),
        (GOLANG, [], "SELECT user_version = 2 FROM pragma_user_version"),
    ],
    ids=["dbmate", "golang-migrate", "goose", "user_version", "by its structure alone"],
)  # fmt: skip
def test_plain_numbered_sql_goes_on_where_its_tool_left_it(
    tmp_path: Path, files: dict[str, str], past: list[str], after: str
) -> None:
    folder, database = numbered(tmp_path / "sql", **files), tmp_path / "app.db"
    filled(database, "CREATE TABLE items (id INTEGER PRIMARY KEY)", "INSERT INTO items VALUES (7)", *past)
    outcome = upgrade(database, migration_folder.load(folder))
    assert (outcome.name, outcome.version_before) == ("MIGRATED", 1), names_of(outcome)
    assert ask(database, "SELECT count(*) FROM items WHERE id = 7 AND name IS NULL") == 1
    assert ask(database, after) == 1
    assert version(database) == 2


@pytest.mark.parametrize(
    ("row", "name", "cause"),
    [
        ("(1, 1)", "HISTORY_DIFFERS", "its tool was cut in the middle of version 1 and left it marked as dirty"),
        ("(9, 0)", "TOO_NEW", "version 9, which this release does not know"),
    ],
)
def test_what_a_tool_left_dirty_or_newer_is_refused(tmp_path: Path, row: str, name: str, cause: str) -> None:
    folder, database = numbered(tmp_path / "sql", **GOLANG), tmp_path / "app.db"
    filled(
        database, "CREATE TABLE items (id INTEGER PRIMARY KEY)",
        "CREATE TABLE schema_migrations (version uint64, dirty bool)", f"INSERT INTO schema_migrations VALUES {row}",
    )  # fmt: skip
    before = dump(database)
    outcome = upgrade(database, migration_folder.load(folder))
    assert (outcome.name, cause in outcome.cause) == (name, True), names_of(outcome)
    assert dump(database) == before


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"1_a": "", "01_b": ""}, "the number 1 is there more than once"),
        ({"1_a": "", "01_b": ""}, "01_b.sql and 1_a.sql"),
        ({"items": ""}, "does not begin with a number"),
        ({"1_a__SQL": "", "2_b__go": ""}, "the ending is .sql, in small letters"),
        ({"1_a": "", "2_b__go": ""}, "a migration in code"),
        ({"1_a/up": ""}, "SQL files in folders of their own are not read"),
        (
            {"1_a": "-- migrate:down\nDROP TABLE a;\n-- migrate:up\nCREATE TABLE a (x);"},
            "the way down before the way up",
        ),
        ({"1_a": "CREATE TABLE a (x);\n-- +goose Down\nDROP TABLE a;"}, "no way up at all"),
        ({"1_a": "-- +goose Up\n-- +goose ENVSUB ON\nINSERT INTO a VALUES ('${SHOP}');"}, "words from the environment"),
    ],
)
def test_a_folder_that_cannot_be_ordered_is_refused(tmp_path: Path, files: dict[str, str], cause: str) -> None:
    with pytest.raises(BadMigrations, match=cause):
        migration_folder.load(numbered(tmp_path / "sql", **files))


def test_the_way_down_is_never_run_and_a_block_of_gooses_is_a_statement(tmp_path: Path) -> None:
    begin, end = "-- +goose StatementBegin\n", "\n-- +goose StatementEnd\n"
    blocks = [
        "CREATE TABLE a (x)",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END",
        "INSERT INTO a VALUES (1)",
    ]
    up = "  -- +goose Up\n" + "".join(begin + one + end for one in blocks)
    folder = numbered(tmp_path / "sql", **{"1_a": up + "  -- +goose Down\nDROP TABLE a;\n"})
    (folder / "2_b.sql").write_text("-- +goose Up\n" + begin + "SELECT 1" + end + begin + "SELECT y FROM a" + end)
    assert "(line 6: SELECT y FROM a)" in upgrade(tmp_path / "app.db", migration_folder.load(folder)).cause
    (folder / "2_b.sql").unlink()
    assert upgrade(tmp_path / "app.db", migration_folder.load(folder)).name == "CREATED"
    assert ask(tmp_path / "app.db", "SELECT count(*) FROM a") == 1


def test_what_goose_took_back_counts_as_not_there(tmp_path: Path) -> None:
    """Its table has a row for each way that was gone; a change of content leaves no other trace."""
    folder = numbered(
        tmp_path / "sql", **{"1_a": "CREATE TABLE a (x);", "2_b": "-- changes: insert a\nINSERT INTO a VALUES (1);"}
    )
    database = filled(
        tmp_path / "app.db", "CREATE TABLE a (x)",
        "CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY, version_id INTEGER, is_applied INTEGER)",
        "INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (1, 1), (2, 1), (2, 0)",
    )  # fmt: skip
    outcome = upgrade(database, migration_folder.load(folder))
    assert (outcome.name, outcome.version_before) == ("MIGRATED", 1), names_of(outcome)
    assert ask(database, "SELECT count(*) FROM a") == 1


@pytest.mark.parametrize("name", ["20240101_a.js", "0001_a.SQL", "2024-01-01-000000_a/up.sql"])
def test_a_folder_that_nobody_here_can_read_is_not_taken_for_an_empty_one(tmp_path: Path, name: str) -> None:
    assert migration_folder.load(tmp_path) == ()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(BadMigrations, match="another tool's"):
        migration_folder.load(tmp_path)


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "sql", **GOLANG)
    (folder / "engine.toml").write_text('engine = "flyweight"\n')
    with pytest.raises(BadMigrations, match="'flyweight' is no engine"):
        migration_folder.load(folder)
    (folder / "engine.toml").write_text('engine = "numbered"\n[declared.2_name]\nchanges = []\n')
    with pytest.raises(BadMigrations, match="declares something of 2_name, which is not there"):
        migration_folder.load(folder)
    (folder / "engine.toml").write_text("engine = ")
    with pytest.raises(BadMigrations):
        migration_folder.load(folder)


def test_all_engines_get_backup_verification_and_the_way_back(tmp_path: Path) -> None:
    from dbsync.backups.catalog import list_backups
    from dbsync.commands import downgrade

    folder, database = numbered(tmp_path / "sql", **GOLANG), tmp_path / "app.db"
    filled(database, "CREATE TABLE items (id INTEGER PRIMARY KEY)", "INSERT INTO items VALUES (7)")
    found = migration_folder.load(folder)
    assert coordinator.upgrade(effects(database), migrations=found).ready
    filled(database, "INSERT INTO items (id) VALUES (8)")
    (base, *_) = list_backups(backups=tmp_path / "backups", database=database)
    returned = downgrade.downgrade(effects(database), base, found, accept_loss=False)
    assert returned.outcome.name == "CARRIED_BACK"
    assert ask(database, "SELECT group_concat(id) FROM items") == "7,8"
    assert version(database) == 1, "as it was adopted"
