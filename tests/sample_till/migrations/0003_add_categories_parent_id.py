"""Categories below categories."""

description = "Add parentId column to categories for hierarchy support"


def up(db):
    db.log("🔄 Adding parentId to categories...")
    if "parentId" not in db.columns("categories"):
        db.execute("ALTER TABLE categories ADD COLUMN parentId TEXT REFERENCES categories(id)")
        db.log("✅ Added 'parentId' column")
