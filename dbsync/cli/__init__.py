"""The command line of dbsync: the only package of it that prints, asks, exits and imports click."""
