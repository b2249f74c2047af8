"""One SKU is one product in a business; where two products share one, the later ones get a suffix."""

description = "Make products' SKU unique"
replaces = ["@BROKEN@"]
changes = ["update products.sku where n.sku glob o.sku || '-*'"]


def up(db):
    twice = db.query(
        "SELECT id, sku, row_number() OVER (PARTITION BY sku, businessId ORDER BY rowid)"
        " FROM products WHERE (sku, businessId) IN"
        " (SELECT sku, businessId FROM products GROUP BY sku, businessId HAVING count(*) > 1)"
    )
    for product_id, sku, number in twice:
        if number > 1:
            db.execute("UPDATE products SET sku = ? WHERE id = ?", (f"{sku}-{number}", product_id))
    db.execute("CREATE UNIQUE INDEX idx_products_sku ON products(sku, businessId)")
    db.log("✅ SKUs are unique")
