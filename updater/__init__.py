"""Update agent that keeps the application of a store terminal and its database up to date as one unit."""

__version__ = "0.1.0"
