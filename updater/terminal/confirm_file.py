"""The file by which an app on trial confirms, and the answer beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbsync.storage import file_calls
from dbsync.storage import files as disk_files
from dbsync.storage.files import disk_errors
from updater.model import TrialId

if TYPE_CHECKING:
    from updater.flows.confirm import ConfirmAnswer


class ConfirmFile:
    """The confirm file of one trial."""

    def __init__(self, shared: Path, trial_id: TrialId) -> None:
        self.path: Final = shared / f"confirm-{trial_id}"
        self._answer_path: Final = shared / f"confirm-{trial_id}.ack"
        self._trial_id: Final = trial_id

    def asks(self) -> bool:
        """Return whether the app has written it; answering removes it."""
        try:
            return file_calls.read_text(self.path).strip() == self._trial_id
        except (OSError, ValueError):
            return False

    def answer(self, answer: ConfirmAnswer) -> None:
        """Answer the app; after a crash before this, the app waits, and its keeper or the next launcher answers."""
        with disk_errors("answer the confirm", self.path):
            disk_files.write_durably(self._answer_path, answer.encode(), like=self.path.parent)
            file_calls.remove(self.path)

    def clear(self) -> None:
        """Remove what an earlier launch left: it must not confirm the next one."""
        for path in (self.path, self._answer_path):
            with disk_errors("remove", path):
                file_calls.remove(path)
