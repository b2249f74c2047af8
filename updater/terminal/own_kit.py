"""The real effects of the agent's own update: the kit that this process runs from, and those beside it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbsync.errors import Refused, TillkeeperError, TryLater
from dbsync.facts import NO_SCHEMA
from dbsync.storage import claims, file_calls, files
from dbsync.storage.claims import plain
from updater.answers import Answer, Offer
from updater.bundles.version_folders import Versions
from updater.decisions.self_update import FailedRelease, KitTrial, KitView, Note
from updater.flows.effects import OwnKit
from updater.host import stub, this_host
from updater.manifest import MANIFEST_NAME, release_id
from updater.model import Release, ReleaseId
from updater.repository import client, trust
from updater.settings import Settings
from updater.terminal import kit, kit_dummy, kit_pointer, kit_use

if TYPE_CHECKING:
    from updater.bundles.staging import Staging

SELF_TEST_SECONDS: Final = 300.0
KEPT_COUNT: Final = 20
"""Releases of the agent whose failures are remembered."""
AWAY: Final = (Answer.OFFLINE, Answer.TIMED_OUT, Answer.SERVER_BUSY, Answer.SERVER_WRONG)
"""Answers that say nothing of the agent: the network, or what stands in its way."""


def version_here() -> tuple[Path, str] | None:
    """Return home and version of the kit that this process runs from, if its agent can update itself; else None."""
    folder = kit_use.own_folder()
    if folder is None or not kit_pointer.has_stub(folder.parent):
        return None
    return folder.parent, kit.read(folder).version


class RealKit(OwnKit):
    """The kit that this process runs from.

    Args:
        home: the folder of the kits.
        settings: the terminal.
        staging: the way from an offer to a folder.
    """

    def __init__(self, home: Path, settings: Settings, staging: Staging) -> None:
        self._home: Final = home
        self._settings: Final = settings
        self._staging: Final = staging
        self._kit: Final = kit.read(kit_use.own_folder() or home)
        self._folder: Final = settings.private / "agent"
        self._records: Final = self._folder / "releases.json"
        self._note: Final = self._folder / "note.json"
        self._over: Final = os.environ.get(stub.OVER, "")

    def look(self) -> KitView:
        trial = self._trial()
        found = self._read(self._records)
        failures = tuple(failure for value in found.get("failures", ()) if (failure := _failure(value)) is not None)
        return KitView(
            self._kit.id, self._kit.version, trial, self._read_note(),
            self._launches_spent({self._kit.id}), failures,
        )  # fmt: skip

    def stage(self, offer: Offer) -> str:
        place = self._staging.beside(Versions(self._home, reserve_bytes=self._settings.limits.least_free_bytes))
        if not place.reuse(offer):
            staging = place.unpack(offer, place.download(offer))
            place.check_unpacked(offer, staging)
            place.shelve(offer, staging)
        shelved = Versions(self._home).folder(offer.release.folder)
        found = kit.read(shelved)
        if found.app != self._settings.app or not stub.is_identity(found.id):
            raise Refused(operation="use the kit", path=shelved, cause=f"it is kit {found.id} of {found.app}")
        folder = self._home / kit.FOLDER.format(found.id)
        kits = {
            path.name.removeprefix(kit.FOLDER.format("")) for path in files.listed(self._home, kit.FOLDER.format("*"))
        }
        named = stub.pointer(self._home)
        if found.id not in (named.get("id"), named.get("before")):
            # It lies there since a trial of before, and may be damaged.
            tuple(kit_use.remove_unused(self._home, keep=frozenset(kits - {found.id})))
        if not files.is_there(folder):
            files.rename_durably(source=shelved, target=folder)
        elif not files.is_there(folder / MANIFEST_NAME):
            # A setup brought it.
            files.copy_bytes(source=shelved / MANIFEST_NAME, target=folder / MANIFEST_NAME)
        return found.id

    def test(self, kit_id: str) -> None:
        folder = self._home / kit.FOLDER.format(kit_id)
        command = [
            kit_dummy.python_of(folder), "-I", "-S", "-c", TEST, str(folder / "site"), str(folder),
            str(self._settings.path),
        ]  # fmt: skip
        code, output = this_host().run_and_wait(command, timeout_seconds=SELF_TEST_SECONDS, env=None, cwd=folder)
        last = output.strip().splitlines()[-1:] or [""]
        try:
            answer: dict[str, Any] = json.loads(last[0])
            said = str(answer.get("id", "")), str(answer.get("problem", ""))
        except (ValueError, AttributeError):
            said = "", f"it {'did not end in time' if code is None else f'ended with code {code}'}: {plain(last[0])}"
        if code is None or (said[0] != kit_id and not said[1].startswith("refused")):
            raise TryLater(operation="test the agent", path=folder, cause=said[1] or "it did not answer")
        if said[0] != kit_id:
            raise Refused(operation="test the agent", path=folder, cause=said[1])

    def begin_trial(self, release: Release, kit_id: str, token: str) -> None:
        kit_pointer.begin_trial(
            self._home, kit_id=kit_id, token=token, release=release,
            limit_seconds=self._settings.limits.agent_trial_seconds, shared=str(self._settings.shared),
        )  # fmt: skip

    def prove(self, trial: KitTrial) -> Note | None:
        scratch = self._folder / "trial"
        file_calls.remove_tree_if_possible(scratch)
        files.make_folder(scratch, like=self._settings.private)
        try:
            return self._prove(trial, scratch)
        finally:
            file_calls.remove_tree_if_possible(scratch)

    def _prove(self, trial: KitTrial, scratch: Path) -> Note | None:
        """Look with a copy of what this terminal trusts: the agent before must be able to read what it has."""
        copy = scratch / "trust"
        for name in (trust.ROOT_NAME, trust.SEEN_NAME, *(f"metadata/{role}.json" for role in trust.ROLES)):
            if files.is_there(self._settings.trust / name):
                files.make_folder((copy / name).parent)
                files.copy_bytes(source=self._settings.trust / name, target=copy / name)
        # Without the kept answer: all signatures are verified.
        assert not files.is_there(copy / trust.LISTING_NAME)
        source = self._staging.source()._replace(trust_folder=copy, record=scratch / "addresses.json")
        looked = client.look(source, now=datetime.now(UTC))
        if looked.answer is not Answer.OK:
            return Note(trial.token, f"{looked.answer}: {looked.detail}", looked.answer in AWAY)
        own = [found for found in looked.releases if found.release_id == trial.release.release_id]
        if not own:
            return Note(trial.token, f"agent {trial.release.version} is signed no more", is_away=False)
        fetched = client.fetch_manifest(source, own[0], to=scratch / "manifest")
        if fetched.answer is not Answer.OK:
            return Note(trial.token, f"{fetched.answer}: {fetched.detail}", fetched.answer in AWAY)
        here = self._kit.folder / MANIFEST_NAME
        with files.disk_errors("read", here):
            own_id = release_id(file_calls.read_bytes(here))
        if own_id != trial.release.release_id:
            return Note(trial.token, f"{here} is not the manifest of this release", is_away=False)
        problem = kit_dummy.activate(home=self._home, scratch=scratch / "home", release=trial.release)
        return Note(trial.token, problem, is_away=False) if problem else None

    def write_note(self, note: Note) -> None:
        files.make_folder(self._folder, like=self._settings.private)
        files.write_json(self._note, {"format": 1, **note._asdict()}, like=self._settings.private)

    def give_up(self, trial: KitTrial) -> None:
        document = {"token": trial.token, "count": stub.ATTEMPTS_LIMIT, "late": True}
        files.write_durably(self._home / stub.ATTEMPTS, json.dumps(document).encode(), mode=kit_pointer.MODE)

    def confirm(self, trial: KitTrial) -> bool:
        return kit_pointer.confirm(self._home, token=trial.token)

    def end_trial(self, trial: KitTrial) -> None:
        kit_pointer.end_trial(self._home, token=trial.token)

    def write_failure(self, failure: FailedRelease) -> None:
        found = self._read(self._records)
        known = [value for value in found.get("failures", ()) if value.get("release_id") != failure.release_id]
        self._write({**found, "failures": [*known, failure._asdict()][-KEPT_COUNT:]})

    def forget_failure(self, release_id: ReleaseId) -> None:
        found = self._read(self._records)
        self._write(
            {**found, "failures": [value for value in found["failures"] if value.get("release_id") != release_id]}
        )

    def tell_launches(self) -> bool:
        found = self._read(self._records)
        if found.get("launches_told") == self._kit.id:
            return False
        self._write({**found, "launches_told": self._kit.id})
        return True

    def _write(self, found: dict[str, Any]) -> None:
        files.make_folder(self._folder, like=self._settings.private)
        files.write_json(self._records, {"format": 1, **found}, like=self._settings.private)

    def tidy(self) -> tuple[str, ...]:
        found = stub.pointer(self._home)
        named = {self._kit.id, found.get("id"), found.get("before")}
        kept = frozenset(identity for identity in named if isinstance(identity, str))
        versions = self._home / "versions"
        if files.is_there(versions):
            file_calls.remove_tree_if_possible(versions)
        return tuple(kit_use.remove_unused(self._home, keep=kept))

    def _trial(self) -> KitTrial | None:
        found = stub.pointer(self._home).get("trial")
        if not isinstance(found, dict) or not isinstance(found.get("token"), str):
            return None
        token, named = found["token"], found.get("release") or {}
        try:
            release = Release(ReleaseId(named["release_id"]), str(named["version"]), NO_SCHEMA)
        except (KeyError, TypeError):
            release = Release(ReleaseId(""), "?", NO_SCHEMA)
        count, late = stub.attempts(self._home, token)
        return KitTrial(str(found.get("id")), token, release, count, late, is_over=token == self._over)

    def _launches_spent(self, kit_ids: set[str]) -> bool:
        """Return whether the till's account says that its launchers do not reach the app; whatever else is no word."""
        try:
            found = json.loads(claims.read(self._settings.shared / stub.LAUNCHES, limit_bytes=stub.SIZE_LIMIT_BYTES))
            return found["id"] in kit_ids and int(found["count"]) >= stub.LAUNCHES_LIMIT
        except (FileNotFoundError, TillkeeperError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return False

    def _read_note(self) -> Note | None:
        found = self._read(self._note)
        try:
            return Note(str(found["token"]), str(found["problem"]), found["is_away"] is True)
        except KeyError:
            return None

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        """Return a record; an empty one if it is lost: then a release is tried again."""
        try:
            found = files.read_json(path)
        except (FileNotFoundError, Refused):
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("failures", []), list) else {}


TEST: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from updater.terminal.kit_test import main; main()"
"""The self-test of another kit: `main` of that module, with its folder and the settings file, for all later kits."""


def _failure(value: Any) -> FailedRelease | None:
    try:
        return FailedRelease(**value)
    except TypeError:
        return None
