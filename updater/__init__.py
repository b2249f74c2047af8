"""Keeps the application of a store terminal and its database up to date, as one."""

__version__ = "0.1.0"
