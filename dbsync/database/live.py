"""All effects of `upgrade.effects` on a real database, composed of a module for each group of them."""

from __future__ import annotations

from dbsync.database.backing_up import BackingUp
from dbsync.database.comparing import Comparing
from dbsync.database.counting import Counting
from dbsync.database.looking import Looking
from dbsync.database.recording import Recording
from dbsync.database.restore import Restoring
from dbsync.database.transaction import Transaction


class LiveEffects(Looking, BackingUp, Transaction, Comparing, Restoring, Counting, Recording):
    """All effects on one database file. The caller holds the database lock; nothing is opened before it is needed."""
