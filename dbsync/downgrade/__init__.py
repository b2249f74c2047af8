"""Carries the data recorded since a migration back to the older schema. Works on copies only."""
