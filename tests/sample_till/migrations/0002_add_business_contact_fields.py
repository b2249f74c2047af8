"""Contact fields of a business."""

description = "Add address, phone, vatNumber to businesses table"


def up(db):
    db.log("🔄 Adding business contact fields...")
    for column in ("address", "phone", "vatNumber"):
        if column not in db.columns("businesses"):
            db.execute(f"ALTER TABLE businesses ADD COLUMN {column} TEXT")
            db.log(f"✅ Added '{column}' column")
