"""`python -m dbsync`: the command line of one database and one folder of migrations."""

from dbsync.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
