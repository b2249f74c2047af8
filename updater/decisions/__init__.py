"""Decisions about the next step on a terminal: pure functions of values. Imports only the model."""
