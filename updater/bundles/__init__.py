"""Bundles of releases: download, unpack, verify, and keep as version folders."""
