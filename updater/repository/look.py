"""One look at the repository with TUF. Everything that it returns was verified against the trusted root.

The only module of a terminal that imports tuf. It uses the public API alone, but for the module in which the client
makes its calls on files (`_patient_files`). It runs in the short-lived child.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater

from dbsync.storage import file_calls, files
from updater.addresses import plain
from updater.answers import Answer
from updater.bundle_names import is_agent_app
from updater.decisions import rollout
from updater.manifest import SIGNED_AT
from updater.network.http import Http, Trouble
from updater.network.manner import Manner
from updater.repository import listing, steering, trust
from updater.repository.trust import CLOCK_DOUBT, ROLES

ODD: Final = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError)
DATED_YEARS: Final = range(2000, 3000)
"""Of a server's Date that is worth a comparison; with those of the calendar's ends nothing can be calculated."""


class _Fetcher(FetcherInterface):  # type: ignore[misc]
    """Fetcher of TUF over our own HTTP. Keeps the last Trouble, which TUF would wrap, and the last URL."""

    def __init__(self, http: Http, base: str) -> None:
        self._http = http
        self._base = base
        self._limit_bytes: int | None = None
        self.trouble: Trouble | None = None
        self.asked = ""

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Keep the limit too: TUF counts what a content coding leaves, which may be nothing for ever."""
        self._limit_bytes = max_length
        with super().download_file(url, max_length) as file:
            yield file

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
                yield from reply.chunks(limit_bytes=self._limit_bytes)
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
        self.now = datetime.fromisoformat(request["now"])
        self.http = Http(address, manner, until=until)
        self.fetcher = _Fetcher(self.http, self.base)

    def run(self) -> dict[str, Any]:
        """Refresh and check the metadata; return all signed releases.

        Raises:
            Trouble: with the answer that names the cause.
        """
        self.metadata.mkdir(parents=True, exist_ok=True)
        try:
            root = self._root()
            with _patient_files():
                seen = trust.read(self.trust)
                client = self._refreshed(root, seen)
            expires, seen = self._check_seen(seen)
            offers = self._offers(client)
            said = self._steering(client, seen)
        except trust.TrustLost as cause:
            raise Trouble(Answer.TRUST_LOST, cause.in_words) from cause
        except ExpiredMetadataError as cause:
            raise self._expired(str(cause)) from cause
        except DownloadHTTPError as cause:
            raise Trouble(Answer.SERVER_WRONG, str(cause)) from cause
        except DownloadError as cause:
            raise self.fetcher.trouble or Trouble(Answer.REFUSED, str(cause)) from cause
        except DeserializationError as cause:
            # A portal's login page, or half a file: the answer did not come from the repository.
            raise Trouble(Answer.SERVER_WRONG, f"{self.base}: what came is not metadata ({cause})") from cause
        except BadVersionNumberError as cause:
            # Such as a stick that was made before this terminal was online.
            cause_in_words = f"{self.fetcher.asked}: it is older than what this terminal has seen: {cause}"
            raise Trouble(Answer.REFUSED, cause_in_words) from cause
        except (RepositoryError, *ODD) as cause:
            # Of any type that odd metadata may lead to: the next address may have better.
            raise Trouble(Answer.REFUSED, f"{self.fetcher.asked}: {type(cause).__name__}: {cause}") from cause
        self._keep(root, offers, expires, said)
        return {"answer": Answer.OK, "detail": "", "offers": offers, "steering": said}

    def _root(self) -> bytes:
        """Return the trusted root.

        Raises:
            TrustLost: it is missing, or is none.
        """
        path = self.trust / trust.ROOT_NAME
        try:
            root = file_calls.read_bytes(path)
        except FileNotFoundError:
            raise trust.TrustLost(operation="read", path=path, cause="the file is missing") from None
        if not _is_root(root):
            raise trust.TrustLost(operation="read", path=path, cause="it is no root")
        return root

    def _refreshed(self, root: bytes, seen: trust.Seen) -> Updater:
        """Return a client with verified metadata; start over without files that replaced keys have signed.

        Those may hold a version that no right one will ever reach (TUF 5.3.11). A crash after their removal is
        repeated: what was seen keeps the old keys until the look has succeeded.
        """
        client = self._client(root)
        try:
            client.refresh()
        except RepositoryError:
            changed = trust.changed_roles(seen, self._keys())
            stale = [self.metadata / name for name in trust.files_of(changed) if (self.metadata / name).exists()]
            if not stale:
                raise
            for path in stale:
                file_calls.remove(path, missing_ok=False)
            client = self._client(root)
            client.refresh()
        return client

    def _client(self, root: bytes) -> Updater:
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
            fetcher=self.fetcher,
            **options,
        )

    def _drop_torn(self) -> None:
        for role in ROLES[1:]:
            path = self.metadata / f"{role}.json"
            if path.exists() and path.stat().st_size == 0:
                file_calls.remove(path, missing_ok=False)

    def _keys(self) -> dict[str, str]:
        """Return a digest of each role's keys in the verified root."""
        root: Root = _metadata(self.metadata / "root.json")
        found = {}
        for role in ROLES:
            values = sorted(
                f"{root.keys[keyid].scheme} {sorted(root.keys[keyid].keyval.items())}"
                for keyid in root.roles[role].keyids
            )
            found[role] = hashlib.sha256("\n".join(values).encode()).hexdigest()
        return found

    def _check_seen(self, seen: trust.Seen) -> tuple[datetime, trust.Seen]:
        """Check that versions and time never go back, even if the metadata files were lost; remember both.

        Returns:
            The earliest expiry of the four roles, and what is remembered now.
        """
        signed = {role: _metadata(self.metadata / f"{role}.json") for role in ROLES}
        keys = self._keys()
        changed = trust.changed_roles(seen, keys)
        kept = trust.forgotten(seen, changed)
        for role in ROLES:
            if signed[role].version < kept.versions.get(role, 0):
                cause = f"{role} has version {signed[role].version}, this terminal has seen {kept.versions[role]}"
                raise Trouble(Answer.REFUSED, cause)
        expires = {role: _utc(signed[role].expires) for role in ROLES}
        text, floor = trust.floor_after(
            seen.floor,
            str(signed["timestamp"].unrecognized_fields.get(SIGNED_AT, "")),
            is_newer="timestamp" in changed or 0 < seen.versions.get("timestamp", 0) < signed["timestamp"].version,
            now=self.now,
            date=_http_date(self.http.date),
            expires=expires["timestamp"],
        )
        judged = max(self.now, floor or self.now)
        for role in ROLES:
            if expires[role] <= judged:
                raise self._expired(f"{role} expired on {expires[role]:%Y-%m-%d %H:%M} UTC")
        files.sync_tree(self.metadata)
        found = trust.Seen({role: signed[role].version for role in ROLES}, keys, text, kept.sequences)
        if found != seen:
            trust.write(self.trust, found)
        return min(expires.values()), found

    def _expired(self, what: str) -> Trouble:
        """Return the Trouble of an expiry: caused by the repository, or by this terminal's clock."""
        theirs = _http_date(self.http.date)
        if theirs is not None and abs(theirs - self.now) > CLOCK_DOUBT:
            clocks = f"this terminal's clock says {self.now:%Y-%m-%d %H:%M}, the server's {theirs:%Y-%m-%d %H:%M} UTC"
            detail = f"{what}; {clocks}"
            return Trouble(Answer.CLOCK_SUSPECT, detail)
        return Trouble(Answer.REFUSED, f"{what}: the vendor has to refresh the repository, or it is an old copy of it")

    def _offers(self, client: Updater) -> list[dict[str, Any]]:
        targets: Targets = _metadata(self.metadata / "targets.json")
        root: Root = _metadata(self.metadata / "root.json")
        if targets.delegations is not None:
            raise Trouble(Answer.REFUSED, "the repository delegates, which is not accepted here")
        offers, packs = [], listing.packs_by_version(targets.targets)
        for name in sorted(targets.targets):
            app, version = listing.named(name)
            if not app or (self.app and app != self.app and not is_agent_app(app, self.app)):
                continue
            # Names come from the file on disk; their targets come from the metadata that the client verified in memory.
            manifest = client.get_targetinfo(name)
            archive = client.get_targetinfo(f"{app}-{version}.tar.gz")
            if manifest is None:
                continue
            hashed = bool(root.consistent_snapshot)
            offer = listing.offer(app=app, version=version, manifest=manifest, archive=archive, hashed=hashed)
            known = [client.get_targetinfo(name) for name in packs.get((app, version), ())]
            if known:
                offer["packs"] = [listing.pack(target, hashed=hashed) for target in known if target is not None]
            offers.append(offer)
        return offers

    def _steering(self, client: Updater, seen: trust.Seen) -> dict[str, Any]:
        """Return document and brake of the app; a document that cannot be followed is a problem and no document.

        The highest sequence is durable before the document is followed.
        """
        timestamp = _metadata(self.metadata / "timestamp.json")
        found = {"document": None, "problem": "", "brake": timestamp.unrecognized_fields.get(rollout.BRAKE)}
        if not self.app:
            return found
        highest = seen.sequences.get(self.app)
        try:
            data = self._document(client)
            if data is None:
                return found if highest is None else {**found, "problem": "the vendor's steering document is missing"}
            sequence = steering.document_of(data, app=self.app).sequence
        except ValueError as cause:
            return {**found, "problem": f"the vendor's steering document is not followed: {cause}"}
        if sequence < (highest or 0):
            old = f"its sequence is {sequence}, and this terminal has seen {highest}"
            return {**found, "problem": f"the vendor's steering document is not followed: {old}"}
        if sequence != highest:
            trust.write(self.trust, seen._replace(sequences={**seen.sequences, self.app: sequence}))
        return {**found, "document": data.decode()}

    def _document(self, client: Updater) -> bytes | None:
        """Return the verified bytes of the document, from the last look if they are the same; None if there is none.

        Raises:
            ValueError: it is signed without a SHA-256, or is too large.
            Trouble: it cannot be fetched, or what came is not what was signed.
        """
        info = client.get_targetinfo(f"{self.app}{rollout.DOCUMENT_END}")
        if info is None:
            return None
        sha256 = info.hashes.get("sha256", "")
        if not sha256 or info.length > rollout.SIZE_LIMIT_BYTES:
            raise ValueError(f"it has {info.length} bytes, or is signed without a SHA-256")
        kept = listing.read(self.trust)
        known = str(kept.steering.get("document") or "").encode() if kept is not None else b""
        if _is_signed(info, known):
            return known
        root: Root = _metadata(self.metadata / "root.json")
        name = f"targets/{f'{sha256}.' if root.consistent_snapshot else ''}{info.path}"
        data = b""
        with self.http.get(name) as reply:
            reply.refuse_busy()
            if reply.status != 200:
                raise Trouble(Answer.SERVER_WRONG, f"{self.base}/{name}: status {reply.status}")
            for chunk in reply.chunks(size_bytes=info.length):
                data += chunk
                if len(data) > info.length:
                    break
        if not _is_signed(info, data):
            raise Trouble(Answer.REFUSED, f"{self.base}/{name}: it is not what was signed")
        return data

    def _keep(self, root: bytes, offers: list[dict[str, Any]], expires: datetime, said: dict[str, Any]) -> None:
        """Keep the verified answer for as long as the repository stays as it is (`unchanged`)."""
        timestamp = file_calls.read_bytes(self.metadata / "timestamp.json")
        version = _metadata(self.metadata / "root.json").version
        kept = listing.Kept(
            app=self.app,
            root_sha256=hashlib.sha256(root).hexdigest(),
            root_version=version,
            timestamp_sha256=hashlib.sha256(timestamp).hexdigest(),
            verified_at=self.now.isoformat(),
            expires=expires.isoformat(),
            offers=tuple(offers),
            steering=said,
        )
        listing.write(self.trust, kept)


def _patient_replace(source: str, target: str) -> None:
    file_calls.rename(source=Path(source), target=Path(target))


def _patient_remove(path: str) -> None:
    file_calls.remove(Path(path), missing_ok=False)


def _link_or_copy(source: str, target: str, **options: Any) -> None:
    """Make a copy where no link can be made, or none can be read.

    tuf 7 makes root.json a link. Without the right to make links on Windows, on exFAT and on some shares that fails, or
    leaves a file that cannot be opened.
    """
    path = Path(target)
    with suppress(OSError):
        path.symlink_to(source, **options)
    if not path.exists():
        file_calls.remove(path)
        file_calls.write_bytes(path, file_calls.read_bytes(path.parent / source))


def _patient_open(path: str, mode: str) -> Any:
    return file_calls.open_to_read(Path(path)) if mode == "rb" else file_calls.open_to_write(Path(path), mode)


@contextmanager
def _patient_files() -> Iterator[None]:
    """Let TUF's client wait for another program that holds one of its files, as all of this product does.

    A scanner opens each new file of metadata. The client takes a file that it cannot open for absent, and fails where
    it cannot replace one.
    """
    names: dict[str, Any] = vars(sys.modules[Updater.__module__])
    before: dict[str, Any] = {name: names[name] for name in ("os", "open") if name in names}
    patient = {"replace": _patient_replace, "remove": _patient_remove, "symlink": _link_or_copy}
    names |= {"os": SimpleNamespace(**{**vars(os), **patient}), "open": _patient_open}
    try:
        yield
    finally:
        del names["open"]
        names |= before


def _metadata(path: Path) -> Any:
    """Return the signed part of a file of metadata."""
    return Metadata.from_bytes(file_calls.read_bytes(path)).signed


def _is_signed(info: Any, data: bytes) -> bool:
    try:
        info.verify_length_and_hashes(data)
    except RepositoryError:
        return False
    return True


def _is_root(data: bytes) -> bool:
    try:
        return bool(Metadata.from_bytes(data).signed.type == "root")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not a root
        return False


def _parses(path: Path) -> bool:
    try:
        _metadata(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not a root
        return False
    return True


def _utc(moment: datetime) -> datetime:
    """Return an expiry as an aware time: tuf 4 has it without a zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _http_date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
        return found.astimezone(UTC) if found is not None and found.year in DATED_YEARS else None
    except (ValueError, OverflowError, OSError):
        return None
