"""The command line of dbsync: one database, one folder of migrations."""

from dbsync import cli_adopt, cli_back, cli_backups, cli_check, cli_data
from dbsync.cli import main

__all__ = ["cli_adopt", "cli_back", "cli_backups", "cli_check", "cli_data", "main"]

if __name__ == "__main__":
    main()
