"""`python -m dbsync`: the command line of one database and one folder of migrations."""

from dbsync.cli import adopt, backups, check, data, downgrade, history, repair, upgrade
from dbsync.cli.main import main

__all__ = ["adopt", "backups", "check", "data", "downgrade", "history", "main", "repair", "upgrade"]

if __name__ == "__main__":
    main()
