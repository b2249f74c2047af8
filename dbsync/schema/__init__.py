"""Readers of schemas and SQL text. They run no statement of a migration."""
