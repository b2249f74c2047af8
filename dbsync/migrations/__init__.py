"""Reads folders of migrations and runs migrations on a connection that it is given. Never commits."""
