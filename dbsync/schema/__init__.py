"""Reads schemas and SQL text. Runs no statement of a migration."""
