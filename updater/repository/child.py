"""The only module that uses TUF, run in a short-lived child: a JSON request on stdin, JSON lines as answers on stdout.

Everything that it returns was verified against the trusted root. It uses only the public API of `tuf.ngclient`.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater

from dbsync.errors import TillkeeperError, wrapped
from dbsync.outcomes import OutcomeName
from dbsync.storage import files
from updater.addresses import plain
from updater.answers import Answer
from updater.manifest import SIGNED_AT
from updater.network.addresses import Addresses
from updater.network.download import Download, Wanted
from updater.network.http import Http, Trouble
from updater.network.manner import Manner

ROLES: Final = ("root", "timestamp", "snapshot", "targets")
CLOCK_DOUBT: Final = timedelta(days=1)
"""A difference to the server's clock above this makes this terminal's clock suspect."""
MANIFEST_LIMIT_BYTES: Final = 32_000_000
OWN_SHARE: Final = 0.9
"""Part of the deadline that this child uses up by itself: then its answer names the address, and the cause."""


class _Fetcher(FetcherInterface):  # type: ignore[misc]
    """Fetcher of TUF over our own HTTP. Keeps the last Trouble, which TUF would wrap, and the last URL."""

    def __init__(self, http: Http, base: str) -> None:
        self._http = http
        self._base = base
        self.trouble: Trouble | None = None
        self.asked = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._body(url)

    def fetch(self, url: str) -> Iterator[bytes]:
        """Return the body, opened at once: a missing next root is then an HTTP error here, not while reading."""
        self.asked = url
        body = self._body(url)
        first = next(body, b"")
        return itertools.chain((first,), body)

    def _body(self, url: str) -> Iterator[bytes]:
        try:
            # The library is given no secret of the address: neither password nor query.
            with self._http.get(url.removeprefix(f"{self._base}/")) as reply:
                reply.refuse_busy()
                if reply.status != 200:
                    raise DownloadHTTPError(f"{url}: status {reply.status}", reply.status)
                yield from reply.chunks()
        except Trouble as trouble:
            self.trouble = trouble
            raise DownloadError(trouble.detail) from trouble


class Look:
    """One look at the repository through one address."""

    def __init__(self, request: dict[str, Any], address: str, manner: Manner, *, until: float) -> None:
        self.app = str(request["app"])
        self.base = plain(address)
        self.trust = Path(request["trust_folder"])
        self.metadata = self.trust / "metadata"
        self.manifests = self.trust / "manifests"
        self.now = datetime.fromisoformat(request["now"])
        self.http = Http(address, manner, until=until)
        self.fetcher = _Fetcher(self.http, self.base)

    def run(self) -> dict[str, Any]:
        """Refresh and check the metadata; return all signed releases.

        Raises:
            Trouble: with the answer that names the cause.
        """
        root = (self.trust / "root.json").read_bytes()
        for folder in (self.metadata, self.manifests):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            client = self._client(root)
            client.refresh()
            self._check_seen()
            offers = self._offers(client)
        except ExpiredMetadataError as cause:
            raise self._expired(str(cause)) from cause
        except DownloadHTTPError as cause:
            raise Trouble(Answer.SERVER_WRONG, str(cause)) from cause
        except DownloadError as cause:
            raise self.fetcher.trouble or Trouble(Answer.REFUSED, str(cause)) from cause
        except DeserializationError as cause:
            # A portal's login page, or half a file: the answer did not come from the repository.
            raise Trouble(Answer.SERVER_WRONG, f"{self.base}: what came is not metadata ({cause})") from cause
        except (RepositoryError, ValueError, KeyError, TypeError) as cause:
            raise Trouble(Answer.REFUSED, f"{self.fetcher.asked}: {type(cause).__name__}: {cause}") from cause
        return {"answer": Answer.OK, "detail": "", "offers": offers}

    def _client(self, root: bytes) -> Updater:
        if not _is_root(root):
            raise Trouble(Answer.REFUSED, f"{self.trust / 'root.json'} is not a root: hand over the vendor's again")
        options: dict[str, Any] = {}
        if "bootstrap" in inspect.signature(Updater.__init__).parameters:
            options["bootstrap"] = root
        elif not _parses(self.metadata / "root.json"):
            # A power cut can leave an empty root.json, which would fail every later look: restore the trusted root.
            files.write_durably(self.metadata / "root.json", root)
        self._drop_torn()
        return Updater(
            metadata_dir=str(self.metadata),
            metadata_base_url=f"{self.base}/metadata/",
            target_dir=str(self.manifests),
            target_base_url=f"{self.base}/targets/",
            fetcher=self.fetcher,
            **options,
        )

    def _drop_torn(self) -> None:
        for role in ROLES[1:]:
            path = self.metadata / f"{role}.json"
            if path.exists() and path.stat().st_size == 0:
                path.unlink()

    def _check_seen(self) -> None:
        """Check that versions and time never go back, even if the metadata files were lost; remember both."""
        signed = {role: Metadata.from_file(str(self.metadata / f"{role}.json")).signed for role in ROLES}
        seen = _read_seen(self.trust / "seen.json")
        for role in ROLES:
            if signed[role].version < seen["versions"].get(role, 0):
                cause = f"{role} has version {signed[role].version}, this terminal has seen {seen['versions'][role]}"
                raise Trouble(Answer.REFUSED, cause)
        floor = max([seen["floor"], str(signed["timestamp"].unrecognized_fields.get(SIGNED_AT, ""))])
        judged = max(self.now, _moment(floor) or self.now)
        for role in ROLES:
            if signed[role].is_expired(judged):
                raise self._expired(f"{role} expired on {signed[role].expires:%Y-%m-%d %H:%M} UTC")
        files.sync_tree(self.metadata)
        versions = {role: signed[role].version for role in ROLES}
        if {"versions": versions, "floor": floor} != seen:
            files.write_json(self.trust / "seen.json", {"versions": versions, "floor": floor})

    def _expired(self, what: str) -> Trouble:
        """Return the Trouble of an expiry: caused by the repository, or by this terminal's clock."""
        theirs = _http_date(self.http.date)
        if theirs is not None and abs(theirs - self.now) > CLOCK_DOUBT:
            clocks = f"this terminal's clock says {self.now:%Y-%m-%d %H:%M}, the server's {theirs:%Y-%m-%d %H:%M} UTC"
            detail = f"{what}; {clocks}"
            return Trouble(Answer.CLOCK_SUSPECT, detail)
        return Trouble(Answer.REFUSED, f"{what}: the vendor has to refresh the repository, or it is an old copy of it")

    def _offers(self, client: Updater) -> list[dict[str, Any]]:
        targets: Targets = Metadata[Targets].from_file(str(self.metadata / "targets.json")).signed
        root = Metadata.from_file(str(self.metadata / "root.json")).signed
        if targets.delegations is not None:
            raise Trouble(Answer.REFUSED, "the repository delegates, which is not accepted here")
        offers = []
        for name in sorted(targets.targets):
            stem = name.removesuffix(".manifest")
            if stem == name or not stem.startswith(f"{self.app}-" if self.app else ""):
                continue
            # Names come from the file on disk; their targets come from the metadata that the client verified in memory.
            manifest, archive = client.get_targetinfo(name), client.get_targetinfo(f"{stem}.tar.gz")
            if manifest is None or archive is None or manifest.length > MANIFEST_LIMIT_BYTES:
                continue
            prefix = f"{archive.hashes['sha256']}." if root.consistent_snapshot else ""
            offers.append(
                {
                    "manifest": str(self._manifest(client, manifest)),
                    "release_id": manifest.hashes["sha256"],
                    "archive_name": archive.path,
                    "archive_path": f"targets/{prefix}{archive.path}",
                    "archive_size_bytes": archive.length,
                    "archive_sha256": archive.hashes["sha256"],
                }
            )
        self._forget({str(offer["manifest"]) for offer in offers})
        return offers

    def _manifest(self, client: Updater, info: TargetFile) -> Path:
        """Return the verified manifest, from the cache or fetched into it."""
        path = self.manifests / f"{info.hashes['sha256']}.manifest"
        if client.find_cached_target(info, str(path)) is None:
            client.download_target(info, str(path))
            files.sync_file(path)
        return path

    def _forget(self, wanted: set[str]) -> None:
        for path in self.manifests.iterdir():
            if str(path) not in wanted:
                path.unlink(missing_ok=True)


def _is_root(data: bytes) -> bool:
    try:
        return bool(Metadata.from_bytes(data).signed.type == "root")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not a root
        return False


def _parses(path: Path) -> bool:
    try:
        Metadata.from_file(str(path))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not a root
        return False
    return True


def _read_seen(path: Path) -> dict[str, Any]:
    try:
        found = files.read_json(path)
        return {"versions": {str(k): int(v) for k, v in found["versions"].items()}, "floor": str(found["floor"])}
    except (FileNotFoundError, TillkeeperError, KeyError, TypeError, ValueError, AttributeError):
        return {"versions": {}, "floor": ""}


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def _http_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def look(request: dict[str, Any]) -> dict[str, Any]:
    """Ask one address after the other until one answers; each has its share of the time."""
    manner, addresses = _asked(request)
    troubles: list[tuple[str, Trouble]] = []
    ends = time.monotonic() + _own_seconds(request)
    try:
        order = addresses.in_order(folders_first=False)
        for count, address in enumerate(order):
            share_seconds = (ends - time.monotonic()) / (len(order) - count)
            try:
                found = Look(request, address, manner, until=time.monotonic() + share_seconds).run()
            except Trouble as trouble:
                troubles.append((address, trouble))
                addresses.failed(address, trouble)
            else:
                addresses.worked(address)
                return found
        raise addresses.given_up(troubles)
    finally:
        addresses.save()


def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download an archive; the next address resumes what the previous one left unfinished."""
    manner, addresses = _asked(request)
    size_bytes = int(request["size_bytes"])
    wanted = Wanted(request["path"], Path(request["target"]), size_bytes, request["sha256"])
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    download = Download(
        wanted, addresses, manner,
        seconds=_own_seconds(request),
        progress=lambda done: _tell({"done": done, "total": size_bytes}),
    )  # fmt: skip
    try:
        return {"answer": Answer.OK, "detail": "", "fetched_bytes": download.run()}
    except Trouble as trouble:
        return {"answer": trouble.answer, "detail": trouble.detail, "fetched_bytes": download.fetched_bytes}
    finally:
        addresses.save()


def _own_seconds(request: dict[str, Any]) -> float:
    """Return the time that is this child's own, without what its start took on a busy machine."""
    seconds = float(request["seconds"])
    # By the clock of the day, which both processes share: one that was set meanwhile counts for nothing.
    start_seconds = time.time() - float(request["asked_at"])
    return seconds * OWN_SHARE - (start_seconds if 0 < start_seconds < seconds / 2 else 0.0)


def _asked(request: dict[str, Any]) -> tuple[Manner, Addresses]:
    manner = Manner(**{**request["manner"], "no_proxy": tuple(request["manner"]["no_proxy"])})
    return manner, Addresses(request["bases"], Path(request["record"]), manner)


def main() -> None:
    """Answer one request; whatever is raised is an answer too."""
    try:
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        answer = {"look": look, "fetch": fetch}[request["do"]](request)
    except Trouble as trouble:
        answer = {"answer": trouble.answer, "detail": trouble.detail}
    except BaseException as raised:  # noqa: BLE001 - of any type: the parent tells a failure from a deadline by it
        error = wrapped(raised)
        full = error.outcome == OutcomeName.NO_SPACE
        answer = {"answer": Answer.NO_SPACE if full else Answer.TROUBLE, "detail": str(error)}
    _tell(answer)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
