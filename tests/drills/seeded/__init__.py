"""Seeded bugs, each a patch against the product, and the check that catches it: `python -m tests.drills.seeded`."""
