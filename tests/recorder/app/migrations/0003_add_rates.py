"""Rates of VAT."""

description = "Rates of VAT, by name"


def up(db):
    if not db.columns("rates"):
        db.execute("CREATE TABLE rates (name TEXT PRIMARY KEY, percent INTEGER NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO rates (name, percent) VALUES ('full', 19), ('reduced', 7)")
    db.log("✅ Added 'rates'")
