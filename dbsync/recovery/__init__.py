"""Recovers what can be read of a damaged database. Works on scratch copies only."""
