"""The command line of a terminal: the only package of the updater that prints, asks, exits and imports click."""
