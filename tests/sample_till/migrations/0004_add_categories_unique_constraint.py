"""One name is one category in a business."""

description = "Add UNIQUE constraint on (name, businessId) in categories"


def up(db):
    db.log("🔄 Adding UNIQUE constraint to categories...")
    # SQLite's documented order (sqlite.org/lang_altertable.html, 7): make the new one, copy, drop the old one, rename.
    db.execute(
        """
        CREATE TABLE new_categories (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            businessId TEXT NOT NULL REFERENCES businesses(id) ON DELETE CASCADE,
            parentId TEXT REFERENCES categories(id),
            UNIQUE (name, businessId)
        )
        """
    )
    db.execute(
        "INSERT INTO new_categories (id, name, businessId, parentId)"
        " SELECT id, name, businessId, parentId FROM categories ORDER BY rowid"
    )
    db.execute("DROP TABLE categories")
    db.execute("ALTER TABLE new_categories RENAME TO categories")
    db.log("✅ UNIQUE constraint added successfully")
