"""Files that are copies of a database. Never decides which of them is restored."""
