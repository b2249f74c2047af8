"""The flows of a database that goes back to a schema with less room, and up again; and of counters that are raised.

The shop of these flows has receipt numbers in a row of settings, and its newest schemas have barcodes and discounts.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.drills.faults.database_flows import ITEMS_COUNT, PRODUCTS_COUNT, DatabaseFlow, Shop, Spec, sell
from tests.drills.faults.flow import Flow
from tests.drills.faults.kept_values import NEXT_RECEIPT, Value
from tests.drills.faults.pictures import picture
from tests.drills.faults.stage import Stage, clear
from tests.sample_till.bundles import copy_migrations

FROM_THE_TILL: Final = 4
"""How many migrations are those of the sample till."""
OLDER, NEWER, NEWEST = 5, 6, 7
STEPS: Final = {
    OLDER: """CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO settings VALUES ('next_receipt', '1');
""",
    NEWER: """ALTER TABLE products ADD COLUMN barcode TEXT;
CREATE TABLE discounts (
    id INTEGER PRIMARY KEY, transactionId INTEGER NOT NULL REFERENCES transactions(id), cents INTEGER NOT NULL
);
""",
    NEWEST: "ALTER TABLE users ADD COLUMN email TEXT;\n",
}
DECLARED: Final = f"""[[counter]]
name = "{NEXT_RECEIPT}"
description = "Receipt numbers, printed on paper"
table = "settings"
column = "value"
where = "key = 'next_receipt'"
holds = "next"
"""
BEFORE: Final = range(7)
"""Receipts of the newer schema, each with a discount."""
AFTER: Final = range(7, 10)
"""Receipts that were sold after the return."""
LOWERED: Final = 2
"""To which number a person set the counter back."""
REMOVED: Final = Value("products", "barcode", "p99", "400p99")
"""Of a product that is removed after the return: its barcode has no place any more."""
LOST: Final = 6
"""The exit status of a return that could not take everything along."""


class ReturnShop(Shop):
    """The scenes of that shop."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.migrations.clear()
        self.migrations.update({number: stage.folder / f"migrations-{number}" for number in STEPS})
        self.holds_from = NEWER
        self.refused = frozenset({REMOVED})

    def build(self) -> None:
        """Make the databases with the real commands."""
        import tests.sample_till.fill as shop

        for number, folder in self.migrations.items():
            copy_migrations(folder, schema=FROM_THE_TILL)
            for step in range(OLDER, number + 1):
                (folder / f"{step:04d}_step.sql").write_text(STEPS[step], encoding="ascii")
            (folder / "counters.toml").write_text(DECLARED, encoding="ascii")
        clear(self.folder)
        self.run(*self.upgrade_words(OLDER))
        shop.PRODUCTS_COUNT = PRODUCTS_COUNT
        shop.fill(self.database, items_count=ITEMS_COUNT, duplicate_sku=True)
        self.keep("older")
        self.run(*self.upgrade_words(NEWER))
        self._trade()
        self.keep("newer")
        self.run("backup", *self.on_database)
        seen = picture(self.database, self.stage.scratch).numbers
        self._ask("UPDATE settings SET value = ? WHERE key = 'next_receipt'", LOWERED)
        self.keep("lowered")
        self.seen["lowered"] = seen
        self.reset("newer")
        self.run(*self.downgrade_words(), status=LOST)
        sell(self.database, AFTER)
        self._ask("UPDATE settings SET value = CAST(value AS INTEGER) + ?", len(AFTER))
        self._ask("DELETE FROM products WHERE id = ?", REMOVED.key)
        self.keep("returned")
        self.reset("older")
        self.run(*self.upgrade_words(NEWEST))
        self.keep("newest")
        # What a schema looks like is taken from the last one: a scene in which nothing went back.
        self.look("returned", "lowered", "older", "newer", "newest")

    def downgrade_words(self) -> tuple[str, ...]:
        """Return the command that goes back, whatever the older schema cannot hold."""
        return ("downgrade", *self.on_database, "--yes", "--accept-loss")

    def first_backup(self) -> Path:
        """Return the backup that the migration took."""
        return next((self.scenes / "newer" / "backups").glob(f"*-backup-v{OLDER}-*.db"))

    def _trade(self) -> None:
        """Sell with discounts, and give products barcodes."""
        sell(self.database, BEFORE)
        self._ask("UPDATE settings SET value = CAST(value AS INTEGER) + ?", len(BEFORE))
        self._ask(
            "INSERT INTO discounts (transactionId, cents) SELECT id, totalCents FROM transactions"
            " WHERE receiptNumber LIKE ?",
            "S%",
        )
        self._ask(
            "INSERT INTO products (id, name, sku, priceCents, businessId)"
            " SELECT ?, 'Bag', 'BAG', 5, id FROM businesses",
            REMOVED.key,
        )
        self._ask("UPDATE products SET barcode = '400' || id WHERE rowid % 3 = 0 OR id = ?", REMOVED.key)

    def _ask(self, sql: str, value: int | str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(sql, (value,))


def specs(shop: ReturnShop) -> list[Spec]:
    """Return the flows."""
    backup = str(shop.folder / "backups" / shop.first_backup().name)
    restore = ("restore", *shop.on_database, "--yes", "--accept-loss", backup)
    older, lowered = shop.pictures["older"], shop.pictures["lowered"]
    assert older is not None
    assert lowered is not None
    return [
        Spec("db-downgrade-kept", "newer", shop.downgrade_words(), OLDER, status=LOST),
        Spec("db-up-again", "returned", shop.upgrade_words(NEWER), NEWER),
        Spec("db-up-again-through", "returned", shop.upgrade_words(NEWEST), NEWEST),
        Spec(
            "db-restore-counter", "newer", restore, OLDER, len(older.receipts), loses=True, status=LOST,
            source=older.numbers,
        ),
        Spec("db-downgrade-counter", "lowered", shop.downgrade_words(), OLDER, status=LOST, source=lowered.numbers),
    ]  # fmt: skip


def flows(stage: Stage) -> list[Flow]:
    """Build the databases and return the flows."""
    shop = ReturnShop(stage)
    shop.build()
    return [DatabaseFlow(shop, spec) for spec in specs(shop)]
