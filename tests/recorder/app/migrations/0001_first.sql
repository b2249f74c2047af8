-- description: Products and sales
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents INTEGER NOT NULL);
INSERT INTO products (name, cents) VALUES ('Bread', 250), ('Milk', 120), ('Äpfel', 90);
CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt TEXT NOT NULL, cents INTEGER NOT NULL);
