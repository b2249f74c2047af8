"""Barcodes for the scanner."""

description = "Add barcode field to products table for scanning"


def up(db):
    if "barcode" not in db.columns("products"):
        db.execute("ALTER TABLE products ADD COLUMN barcode TEXT")
        db.log("✅ Added 'barcode' column to products")
