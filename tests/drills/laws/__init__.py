"""The laws of going back and up again, on random databases, judged by an oracle in plain SQL and Python."""
