-- description: A note on a sale
ALTER TABLE sales ADD COLUMN note TEXT;
