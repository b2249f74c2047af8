"""Migrates a SQLite database forward with an application, and back, without losing what people recorded in it."""
