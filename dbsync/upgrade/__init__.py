"""Decides how a database moves forward or back. Pure but for the protocol `effects`: no sqlite3, no file."""
