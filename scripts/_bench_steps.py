"""The three steps of the benchmark: what dbsync is told that they change, and their SQL."""

STEPS = {
    "add a column": ("", "ALTER TABLE transaction_items ADD COLUMN note TEXT;"),
    "UNIQUE rebuild": (
        "",
        """
        CREATE TABLE new_items (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            transactionId INTEGER NOT NULL REFERENCES transactions(id) ON DELETE CASCADE,
            productId TEXT NOT NULL REFERENCES products(id),
            quantity INTEGER NOT NULL CHECK (quantity > 0),
            lineCents INTEGER NOT NULL,
            UNIQUE (transactionId, id)
        );
        INSERT INTO new_items SELECT * FROM transaction_items;
        DROP TABLE transaction_items;
        ALTER TABLE new_items RENAME TO transaction_items;
        CREATE INDEX idx_items_transaction ON transaction_items(transactionId);
        CREATE TRIGGER stock_moves AFTER INSERT ON transaction_items
        BEGIN
            UPDATE products SET stock = stock - new.quantity WHERE id = new.productId;
        END;
        """,
    ),
    "backfill": (
        "update transaction_items.lineCents = o.lineCents + 1",
        "UPDATE transaction_items SET lineCents = lineCents + 1;",
    ),
}
