"""A kitchen: dishes, orders with lines that may belong to other lines, timers."""

from __future__ import annotations

from typing import Final

NAME: Final = "kitchen"
FIRST: Final = """\
-- description: dishes, orders, timers
CREATE TABLE dishes (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE ON CONFLICT IGNORE, station TEXT NOT NULL DEFAULT 'cold'
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    table_no INTEGER,
    opened_at TEXT,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'sent', 'done'))
);
CREATE TABLE order_lines (
    id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
    dish_id INTEGER REFERENCES dishes(id),
    belongs_to INTEGER REFERENCES order_lines(id) ON DELETE CASCADE,
    quantity INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 20),
    note TEXT
);
CREATE TABLE timers (name TEXT, seconds INTEGER, started_at TEXT);
CREATE TABLE printers (
    host TEXT NOT NULL, port INTEGER NOT NULL, station TEXT UNIQUE ON CONFLICT REPLACE, PRIMARY KEY (host, port)
);
CREATE INDEX lines_of_orders ON order_lines (order_id);
"""
COURSES: Final = """\
-- description: seats and courses
-- changes: rename orders.table_no -> orders.seat
ALTER TABLE orders RENAME COLUMN table_no TO seat;
ALTER TABLE order_lines ADD COLUMN course INTEGER NOT NULL DEFAULT 1;
ALTER TABLE orders ADD COLUMN guests INTEGER;
"""
STATIONS: Final = '''\
"""Stations of their own; halves; more states."""

description = "Stations of their own; halves; more states"
changes = ["redefine orders", "redefine orders.state", "redefine order_lines", "redefine order_lines.quantity"]


def up(db):
    db.execute("CREATE TABLE stations (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    db.execute("INSERT INTO stations (name) SELECT DISTINCT station FROM dishes ORDER BY station")
    db.add_column("dishes", "station_id", "INTEGER REFERENCES stations(id)")
    db.execute("UPDATE dishes SET station_id = (SELECT id FROM stations WHERE name = dishes.station)")
    db.rebuild_table(
        "orders",
        """
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        seat INTEGER,
        opened_at TEXT,
        state TEXT NOT NULL DEFAULT 'open',
        guests INTEGER
        """,
    )
    db.rebuild_table(
        "order_lines",
        """
        id INTEGER PRIMARY KEY,
        order_id INTEGER NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
        dish_id INTEGER REFERENCES dishes(id),
        belongs_to INTEGER REFERENCES order_lines(id) ON DELETE CASCADE,
        quantity NUMERIC,
        note TEXT,
        course INTEGER NOT NULL DEFAULT 1
        """,
    )
'''
ALLERGENS: Final = """\
-- description: allergens, a log of states
ALTER TABLE dishes ADD COLUMN allergens TEXT CHECK (allergens IS NULL OR json_valid(allergens));
ALTER TABLE dishes ADD COLUMN search_key TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL;
CREATE INDEX dishes_by_key ON dishes (search_key);
CREATE TABLE state_log (order_id INTEGER, state TEXT);
CREATE TRIGGER logged AFTER UPDATE OF state ON orders BEGIN
    INSERT INTO state_log (order_id, state) VALUES (new.id, new.state);
END;
"""
TICKETS: Final = """\
-- description: orders are tickets, timers are gone
-- changes: rename orders -> tickets
-- changes: rename order_lines.order_id -> order_lines.ticket_id
-- changes: drop table timers
ALTER TABLE orders RENAME TO tickets;
ALTER TABLE order_lines RENAME COLUMN order_id TO ticket_id;
DROP TABLE timers;
CREATE VIEW kitchen_queue AS
    SELECT ticket_id, name, quantity FROM order_lines JOIN dishes ON dishes.id = dish_id;
CREATE TABLE devices (id TEXT PRIMARY KEY NOT NULL, seen_at TEXT, printer_host TEXT, printer_port INTEGER,
    FOREIGN KEY (printer_host, printer_port) REFERENCES printers (host, port));
"""
MIGRATIONS: Final = (FIRST, COURSES, STATIONS, ALLERGENS, TICKETS)
_DISHES: Final = "SELECT count(*), group_concat(name), group_concat(station) FROM (SELECT * FROM dishes ORDER BY id)"
_PRINTERS: Final = (
    "SELECT count(*), group_concat(host || port || coalesce(station, '-'))"
    " FROM (SELECT * FROM printers ORDER BY host, port)"
)
_ORDERS: Final = "SELECT count(*), max(id), group_concat(opened_at) FROM {}"
_SEATS: Final = "SELECT sum({}) FROM {}"
COUNTED: Final = {
    "dishes": (_DISHES,) * 5,
    "orders": (_ORDERS.format("orders"),) * 4 + (_ORDERS.format("tickets"),),
    "printers": (_PRINTERS,) * 5,
    "seats": (
        _SEATS.format("table_no", "orders"), *[_SEATS.format("seat", "orders")] * 3, _SEATS.format("seat", "tickets"),
    ),
}  # fmt: skip
