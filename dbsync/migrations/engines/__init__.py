"""Formats of migrations: our own, and those of other tools. One module per engine; `registry` finds them."""
