"""The real effects of a terminal: state files, events, the app's process, the database."""
