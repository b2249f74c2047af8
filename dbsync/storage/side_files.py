"""Files beside a database that are a part of it: the write-ahead log (`-wal`) and the rollback journal (`-journal`).

They are read as files: this opens no database, and takes and drops no lock on one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from dbsync.storage import file_calls, files
from dbsync.storage.files import disk_errors

WAL: Final = "-wal"
JOURNAL: Final = "-journal"
WAL_HEADER_BYTES: Final = 32
JOURNAL_HEADER: Final = struct.Struct(">8sIII")
"""Magic, number of records, nonce, pages before the transaction (sqlite.org/fileformat2.html#the_rollback_journal)."""
JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")


def side_file(database: Path, ending: str) -> Path:
    """Return the path of a side file of a database; SQLite follows links as well."""
    return Path(f"{database}{ending}")


def with_data(database: Path) -> list[Path]:
    """Return the side files that hold data of a database whose own file is missing or empty.

    A log with frames holds commits that were never merged; a journal of a database that had pages holds the pages as
    they were. The journal of a database that was about to be created holds nothing.

    Raises:
        DiskProblem: a side file cannot be read.
    """
    found = []
    wal, journal = side_file(database, WAL), side_file(database, JOURNAL)
    if files.size_of(wal) > WAL_HEADER_BYTES:
        found.append(wal)
    if files.size_of(journal) and _pages_before(journal):
        found.append(journal)
    return found


def data_in_words(database: Path) -> str:
    """Return a sentence on the side files that hold data of a missing or empty database; empty if there are none."""
    found = with_data(database)
    return "; ".join(f"{path} beside it holds {path.stat().st_size} bytes of its data" for path in found)


def _pages_before(journal: Path) -> int:
    with disk_errors("read", journal), file_calls.open_to_read(journal) as file:
        header = file.read(JOURNAL_HEADER.size)
    if len(header) < JOURNAL_HEADER.size:
        return 0
    magic, _records_count, _nonce, pages_count = JOURNAL_HEADER.unpack(header)
    return int(pages_count) if magic == JOURNAL_MAGIC else 0
