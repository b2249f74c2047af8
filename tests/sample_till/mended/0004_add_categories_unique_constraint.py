"""One name is one category in a business; where two categories share one, the later ones get a suffix."""

description = "Add UNIQUE constraint on (name, businessId) in categories"
replaces = ["@BROKEN@"]
changes = ["update categories.name where n.name glob o.name || '-*'"]


def up(db):
    db.log("🔄 Adding UNIQUE constraint to categories...")
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
    # The id ends a name that would be there twice, so that no other category can have it.
    db.execute(
        "INSERT INTO new_categories (id, name, businessId, parentId)"
        " SELECT id,"
        " CASE WHEN row_number() OVER (PARTITION BY name, businessId ORDER BY rowid) = 1"
        " THEN name ELSE name || '-' || id END,"
        " businessId, parentId FROM categories ORDER BY rowid"
    )
    db.execute("DROP TABLE categories")
    db.execute("ALTER TABLE new_categories RENAME TO categories")
    db.log("✅ UNIQUE constraint added successfully")
