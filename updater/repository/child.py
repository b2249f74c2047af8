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
from dbsync.storage import file_calls, files
from updater.answers import Answer
from updater.manifest import SIGNED_AT
from updater.network.http import Http, Trouble, fetch_file

ROLES: Final = ("root", "timestamp", "snapshot", "targets")
CLOCK_DOUBT: Final = timedelta(days=1)
"""A difference to the server's clock above this makes this terminal's clock suspect."""
MANIFEST_LIMIT_BYTES: Final = 32_000_000


class _Fetcher(FetcherInterface):  # type: ignore[misc]
    """Fetcher of TUF over our own HTTP. Keeps the last Trouble, which TUF would wrap, and the last URL."""

    def __init__(self, http: Http) -> None:
        self._http = http
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
            with self._http.get(url) as reply:
                if reply.status != 200:
                    raise DownloadHTTPError(f"{url}: status {reply.status}", reply.status)
                yield from reply.chunks()
        except Trouble as trouble:
            self.trouble = trouble
            raise DownloadError(trouble.detail) from trouble


class Look:
    """One look at the repository through one address."""

    def __init__(self, request: dict[str, Any], base: str) -> None:
        self.app = str(request["app"])
        self.base = base.rstrip("/")
        self.trust = Path(request["trust_folder"])
        self.metadata = self.trust / "metadata"
        self.manifests = self.trust / "manifests"
        self.now = datetime.fromisoformat(request["now"])
        self.http = Http(least_rate=int(request["minimum_bytes_per_second"]))
        self.fetcher = _Fetcher(self.http)

    def run(self) -> dict[str, Any]:
        """Refresh and check the metadata; return all signed releases.

        Raises:
            Trouble: with the answer that names the cause.
        """
        root = file_calls.read_bytes(self.trust / "root.json")
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
                file_calls.remove(path, missing_ok=False)

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
                file_calls.remove(path)


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
    """Ask one address after the other until one answers."""
    first: Trouble | None = None
    for base in request["bases"]:
        try:
            return Look(request, base).run()
        except Trouble as trouble:
            first = first or trouble
    assert first is not None
    raise first


def fetch(request: dict[str, Any]) -> dict[str, Any]:
    """Download an archive; the next address resumes what the previous one left unfinished."""
    first: Trouble | None = None
    target = Path(request["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = int(request["size_bytes"])
    for base in request["bases"]:
        try:
            fetched_bytes = fetch_file(
                Http(least_rate=int(request["minimum_bytes_per_second"])),
                f"{base.rstrip('/')}/{request['path']}",
                target,
                size_bytes=size_bytes,
                sha256=request["sha256"],
                progress=lambda done: _tell({"done": done, "total": size_bytes}),
            )
            return {"answer": Answer.OK, "detail": "", "fetched_bytes": fetched_bytes}
        except Trouble as trouble:
            first = first or trouble
    assert first is not None
    raise first


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
