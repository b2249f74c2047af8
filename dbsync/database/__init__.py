"""Implements `upgrade.effects` on a real database, and what is observed around it."""
