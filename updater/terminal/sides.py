"""The access of a process to the till's side: its own, or that of a child with the till's rights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbsync.storage.platform import this_platform
from updater.settings import Settings
from updater.terminal.till_side import TillSide

if TYPE_CHECKING:
    from dbsync.progress import Progress


def till_side_of(settings: Settings, *, progress: Progress | None = None, reads_only: bool = False) -> TillSide:
    """Return the access of this process to what the till's account owns; nothing is started yet.

    Only a privileged process becomes another account. One that is neither privileged nor the till's, as for
    `updater status`, sees what its own rights show.
    """
    platform = this_platform()
    if settings.till_user and platform.is_privileged and not platform.is_this_account(settings.till_user):
        from updater.terminal.other_side import OtherSide

        return OtherSide(settings)
    from updater.terminal.own_side import OwnSide

    return OwnSide(settings, progress=progress, reads_only=reads_only)
