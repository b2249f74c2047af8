"""Counters: numbers that are known outside the terminal and must never run backwards, whatever replaces a database."""
