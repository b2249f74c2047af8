"""Compares two attached databases before COMMIT. Reads only."""
