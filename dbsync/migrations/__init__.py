"""Folders of migrations: read them, and run migrations on a given connection. Never commits."""
