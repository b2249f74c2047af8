"""The command line of dbsync: one database, one folder of migrations."""

from dbsync import cli_adopt, cli_back, cli_backups, cli_check, cli_data, cli_history, cli_repair, cli_upgrade
from dbsync.cli import main

__all__ = [
    "cli_adopt",
    "cli_back",
    "cli_backups",
    "cli_check",
    "cli_data",
    "cli_history",
    "cli_repair",
    "cli_upgrade",
    "main",
]

if __name__ == "__main__":
    main()
