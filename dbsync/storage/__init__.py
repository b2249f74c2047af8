"""Files, locks and SQLite connections. Knows no migration, no backup and no outcome."""
