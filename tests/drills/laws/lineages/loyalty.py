"""Members with cards and points, articles with places: an inventory with a loyalty scheme."""

from __future__ import annotations

from typing import Final

NAME: Final = "loyalty"
FIRST: Final = """\
-- description: members, cards, items
CREATE TABLE members (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    email TEXT COLLATE NOCASE UNIQUE,
    points INTEGER NOT NULL DEFAULT 0 CHECK (points >= 0),
    joined TEXT
);
CREATE TABLE cards (
    number TEXT PRIMARY KEY NOT NULL, member_id INTEGER NOT NULL REFERENCES members(id) ON DELETE CASCADE
);
CREATE TABLE movements (
    id INTEGER PRIMARY KEY,
    member_id INTEGER REFERENCES members(id) ON DELETE SET NULL,
    points INTEGER NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('sale', 'gift', 'expired'))
);
CREATE TABLE items (sku TEXT PRIMARY KEY NOT NULL, title TEXT, quantity REAL NOT NULL DEFAULT 0, supplier TEXT);
CREATE TABLE bins (code TEXT, sku TEXT REFERENCES items(sku), quantity REAL);
CREATE UNIQUE INDEX cards_of_members ON cards (member_id, number);
CREATE TRIGGER counted AFTER INSERT ON movements WHEN new.member_id IS NOT NULL BEGIN
    UPDATE members SET points = max(0, points + new.points) WHERE id = new.member_id;
END;
"""
NAMES: Final = '''\
"""First and last names."""

description = "First and last names"
changes = ["drop column members.name"]


def up(db):
    db.execute("ALTER TABLE members ADD COLUMN first TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE members ADD COLUMN last TEXT NOT NULL DEFAULT ''")
    db.execute(
        "UPDATE members SET first = substr(name, 1, instr(name || ' ', ' ') - 1),"
        " last = substr(name, instr(name || ' ', ' ') + 1)"
    )
    db.execute("ALTER TABLE members DROP COLUMN name")


def down_row(table, row):
    if table == "members":
        first, last = row.pop("first"), row.pop("last")
        row["name"] = f"{first} {last}" if last else first
    return row
'''
TIERS: Final = '''\
"""Points may be owed; any reason; tiers."""

description = "Points may be owed; any reason; tiers"
changes = ["redefine members", "redefine members.points", "redefine movements", "redefine movements.reason"]


def up(db):
    db.rebuild_table(
        "members",
        """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        email TEXT COLLATE NOCASE UNIQUE,
        points INTEGER NOT NULL DEFAULT 0,
        joined TEXT,
        first TEXT NOT NULL DEFAULT '',
        last TEXT NOT NULL DEFAULT '',
        tier TEXT
        """,
    )
    db.execute("UPDATE members SET tier = CASE WHEN points >= 100 THEN 'gold' ELSE 'plain' END")
    db.rebuild_table(
        "movements",
        """
        id INTEGER PRIMARY KEY,
        member_id INTEGER REFERENCES members(id) ON DELETE SET NULL,
        points INTEGER NOT NULL,
        reason TEXT
        """,
    )
'''
ARTICLES: Final = """\
-- description: items are articles, and can be searched
-- changes: rename items -> articles
-- changes: rename articles.title -> articles.label
ALTER TABLE items RENAME TO articles;
ALTER TABLE articles RENAME COLUMN title TO label;
CREATE VIRTUAL TABLE article_search USING fts5(label, content='articles', content_rowid='rowid');
INSERT INTO article_search (article_search) VALUES ('rebuild');
CREATE TRIGGER articles_added AFTER INSERT ON articles BEGIN
    INSERT INTO article_search (rowid, label) VALUES (new.rowid, new.label);
END;
CREATE TRIGGER articles_removed AFTER DELETE ON articles BEGIN
    INSERT INTO article_search (article_search, rowid, label) VALUES ('delete', old.rowid, old.label);
END;
CREATE TRIGGER articles_changed AFTER UPDATE ON articles BEGIN
    INSERT INTO article_search (article_search, rowid, label) VALUES ('delete', old.rowid, old.label);
    INSERT INTO article_search (rowid, label) VALUES (new.rowid, new.label);
END;
"""
PLACES: Final = """\
-- description: places instead of bins, a list of what runs low
-- changes: drop table bins
CREATE TABLE places (
    code TEXT NOT NULL,
    sku TEXT NOT NULL REFERENCES articles(sku) ON DELETE CASCADE,
    quantity REAL NOT NULL,
    checked_at TEXT,
    PRIMARY KEY (code, sku)
) WITHOUT ROWID;
INSERT INTO places (code, sku, quantity)
    SELECT code, sku, sum(coalesce(quantity, 0)) FROM bins WHERE code IS NOT NULL AND sku IS NOT NULL
    GROUP BY code, sku;
DROP TABLE bins;
CREATE VIEW runs_low AS SELECT sku, label FROM articles WHERE quantity < 5;
CREATE INDEX members_by_name ON members (last COLLATE NOCASE, first);
"""
MIGRATIONS: Final = (FIRST, NAMES, TIERS, ARTICLES, PLACES)
_SUPPLIERS: Final = (
    "SELECT count(*), group_concat(sku || '=' || coalesce(supplier, '-')) FROM (SELECT * FROM {} ORDER BY sku)"
)
_NAMES: Final = (
    "SELECT group_concat(first || CASE last WHEN '' THEN '' ELSE ' ' || last END, '|')"
    " FROM (SELECT first, last FROM members ORDER BY id)"
)
COUNTED: Final = {
    "members": ("SELECT count(*), max(id), group_concat(email) FROM (SELECT * FROM members ORDER BY id)",) * 5,
    "names": ("SELECT group_concat(name, '|') FROM (SELECT name FROM members ORDER BY id)",) + (_NAMES,) * 4,
    "cards": ("SELECT count(*), group_concat(number || member_id) FROM (SELECT * FROM cards ORDER BY number)",) * 5,
    "articles": (_SUPPLIERS.format("items"),) * 3 + (_SUPPLIERS.format("articles"),) * 2,
}
