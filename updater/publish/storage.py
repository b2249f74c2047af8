"""Places of the public files: a folder of this machine, or a bucket of a server that speaks S3.

Names are `metadata/…` and `targets/…`. A file arrives whole or not at all. Credentials of a bucket come from the usual
chain of its library (environment, profile, role of the machine) and are kept nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from dbsync.errors import disk_problem
from dbsync.facts import Sha256
from dbsync.storage import files
from dbsync.storage.files import disk_errors
from updater.addresses import scrubbed, shown
from updater.publish.errors import PublishError, StorageProblem

TIMESTAMP: Final = "metadata/timestamp.json"
READ_LIMIT_BYTES: Final = 64_000_000
"""Of metadata, which is read whole."""
PUT_LIMIT_BYTES: Final = 5_000_000_000
"""Of one object in one request, as S3 has it."""
CHUNK_BYTES: Final = 1 << 20
CONNECT_SECONDS: Final = 10
GAP_SECONDS: Final = 60
ATTEMPTS_COUNT: Final = 3
SHA256_FIELD: Final = "sha256"
"""Name of the hash among an object's own fields."""
_TEMPORARY: Final = frozenset({
    "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "500", "502", "503", "504",
})  # fmt: skip


class Bucket(NamedTuple):
    """Address of public files in a bucket."""

    url: str
    """`s3://bucket/prefix`."""
    endpoint: str = ""
    """Address of the server; empty for Amazon's."""

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The bucket."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """Beginning of every object's key, with its last slash; empty for the bucket itself."""
        found = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{found}/" if found else ""


Public = Path | Bucket
"""Where the public files are."""


def public_of(text: str, endpoint: str = "") -> Public:
    """Return the place that an option or the configuration names.

    Raises:
        PublishError: it is neither a folder nor `s3://BUCKET/PREFIX`.
    """
    if not text.startswith("s3://"):
        if "://" in text or text.startswith("s3:") or endpoint:
            raise PublishError(
                operation="use",
                cause=f"{shown(text)} is no place for public files: give a folder or s3://BUCKET/PREFIX",
            )
        return Path(text).absolute()
    found = Bucket(text, endpoint)
    if not found.name or "@" in text or "?" in text or "@" in endpoint:
        raise PublishError(
            operation="use", cause=f"{shown(text)} is no s3://BUCKET/PREFIX",
            hint="Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …), never from an address.",
        )  # fmt: skip
    return found


class Storage(ABC):
    """Public files, with the calls that a publish needs."""

    def __init__(self, place: str) -> None:
        self.place = place
        """The address, for messages."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a small file; None if there is none of that name."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the names in `metadata` or `targets` with the sizes of the files."""

    @abstractmethod
    def sha256_of(self, name: str) -> str:
        """Return the hash of a file that exists."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file, replacing one of that name at once."""

    @abstractmethod
    def send(self, source: Path, name: str) -> None:
        """Copy a file to a name that does not exist yet."""

    @abstractmethod
    def fetch(self, name: str, target: Path, *, size_bytes: int) -> None:
        """Copy a public file to a new file of this machine, and not more than its size."""


def storage_of(public: Public) -> Storage:
    """Return the store at a place; nothing is asked of it yet.

    Raises:
        PublishError: the library of buckets is not installed.
    """
    return BucketStorage(public) if isinstance(public, Bucket) else FolderStorage(public)


class FolderStorage(Storage):
    """A folder that a web server serves, or a stick."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                return _bounded(file.read(READ_LIMIT_BYTES + 1), str(path))
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise disk_problem("read", path, cause) from cause

    def sizes(self, folder: str) -> dict[str, int]:
        with disk_errors("read", self.folder / folder):
            if not (self.folder / folder).is_dir():
                return {}
            return {
                path.name: path.stat().st_size
                for path in (self.folder / folder).iterdir()
                if path.is_file() and not path.name.startswith(".")
            }

    def sha256_of(self, name: str) -> str:
        return files.sha256_of(self.folder / name)

    def write(self, name: str, data: bytes) -> None:
        files.make_folder((self.folder / name).parent)
        files.write_durably(self.folder / name, data)

    def send(self, source: Path, name: str) -> None:
        target = self.folder / name
        files.make_folder(target.parent)
        part = target.with_name(f".part-{target.name}")
        with disk_errors("deploy", target):
            # A copy, not a link: a tool that rewrites the staged file must not change the public one.
            shutil.copyfile(source, part)
            files.sync_file(part)
            files.rename_durably(source=part, target=target)

    def fetch(self, name: str, target: Path, *, size_bytes: int) -> None:
        with disk_errors("copy", self.folder / name), (self.folder / name).open("rb") as file:
            _copy(iter(lambda: file.read(CHUNK_BYTES), b""), target, size_bytes, f"{self.place}/{name}")


class BucketStorage(Storage):
    """A bucket of Amazon S3 or of another server that speaks it.

    Each object is sent in one request with its MD5, so the server stores it whole, as it was sent, or not at all.
    """

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket.url)
        self._bucket = bucket
        try:
            import boto3.session
            from botocore.config import Config
        except ImportError as cause:
            raise PublishError(
                operation="use", cause=f"{bucket.url}: the library for buckets is not installed",
                hint="pip install 'tillkeeper[s3]'",
            ) from cause  # fmt: skip
        with self._errors("open"):
            # A session of its own: that of the library keeps the credentials that it found first.
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=bucket.endpoint or None,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=GAP_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS_COUNT},
                    # Checksums of a newer kind are unknown to many servers; the MD5 is sent, and known to all.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def read(self, name: str) -> bytes | None:
        try:
            with self._errors(f"read {name} in"), self._get(name) as body:
                return _bounded(body.read(READ_LIMIT_BYTES + 1), f"{self.place}/{name}")
        except _NoSuchObject:
            return None

    def sizes(self, folder: str) -> dict[str, int]:
        prefix = f"{self._bucket.prefix}{folder}/"
        found: dict[str, int] = {}
        with self._errors(f"list {folder} in"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=prefix)
            for page in pages:
                found.update({item["Key"].removeprefix(prefix): int(item["Size"]) for item in page.get("Contents", ())})
        return found

    def sha256_of(self, name: str) -> str:
        with self._errors(f"look at {name} in"):
            head = self._client.head_object(Bucket=self._bucket.name, Key=self._bucket.prefix + name)
            told = head.get("Metadata", {}).get(SHA256_FIELD)
            if told:
                return str(told)
            # Another tool put it here: only its bytes say what it is.
            digest = hashlib.sha256()
            with self._get(name) as body:
                while chunk := body.read(CHUNK_BYTES):
                    digest.update(chunk)
            return digest.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        self._put(
            name,
            data,
            md5=hashlib.md5(data, usedforsecurity=False).digest(),
            sha256=Sha256(hashlib.sha256(data).hexdigest()),
        )

    def send(self, source: Path, name: str) -> None:
        with disk_errors("read", source):
            if source.stat().st_size > PUT_LIMIT_BYTES:
                raise PublishError(
                    operation="send", path=source, cause="a file of a release has at most 5 GB in a bucket"
                )
            digests = hashlib.md5(usedforsecurity=False), hashlib.sha256()
            with source.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    for digest in digests:
                        digest.update(chunk)
                file.seek(0)
                self._put(name, file, md5=digests[0].digest(), sha256=Sha256(digests[1].hexdigest()))

    def fetch(self, name: str, target: Path, *, size_bytes: int) -> None:
        with self._errors(f"copy {name} from"), self._get(name) as body:
            _copy(iter(lambda: body.read(CHUNK_BYTES), b""), target, size_bytes, f"{self.place}/{name}")

    def _put(self, name: str, body: Any, *, md5: bytes, sha256: Sha256) -> None:
        with self._errors(f"write {name} in"):
            self._client.put_object(
                Bucket=self._bucket.name,
                Key=self._bucket.prefix + name,
                Body=body,
                ContentMD5=base64.b64encode(md5).decode(),
                Metadata={SHA256_FIELD: sha256},
                CacheControl=cache_control(name),
                ContentType=content_type(name),
            )

    @contextmanager
    def _get(self, name: str) -> Iterator[Any]:
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket.name, Key=self._bucket.prefix + name)
        except ClientError as cause:
            if cause.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise _NoSuchObject from None
            raise
        with found["Body"] as body:
            yield body

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        """Put errors of the library in words, without anything of the credentials."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except ClientError as cause:
            error = cause.response.get("Error", {})
            code = str(error.get("Code", "unknown"))
            words = f"{code}: {scrubbed(str(error.get('Message', '')))}"
            kind = StorageProblem if code in _TEMPORARY else PublishError
            raise kind(operation=f"{operation} {self.place}", cause=words) from None
        except NoCredentialsError:
            raise PublishError(
                operation=f"{operation} {self.place}", cause="there are no credentials",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and repeat the command.",
            ) from None  # fmt: skip
        except (BotoCoreError, ValueError) as cause:
            raise StorageProblem(operation=f"{operation} {self.place}", cause=scrubbed(str(cause))) from None


class _NoSuchObject(Exception):
    """An object that is not in the bucket."""


def cache_control(name: str) -> str:
    """Return how long caches may keep a file: only timestamp.json is ever replaced."""
    return "no-cache" if name == TIMESTAMP else "public, max-age=31536000, immutable"


def content_type(name: str) -> str:
    """Return a type under which no server and no cache changes the bytes."""
    if name.startswith("metadata/"):
        return "application/json"
    return "application/gzip" if name.endswith(".gz") else "application/octet-stream"


def _bounded(data: bytes, place: str) -> bytes:
    if len(data) > READ_LIMIT_BYTES:
        raise PublishError(operation="read", cause=f"{place} has more than {READ_LIMIT_BYTES // 1_000_000} MB")
    return data


def _copy(chunks: Iterator[bytes], target: Path, size_bytes: int, place: str) -> None:
    left_bytes = size_bytes
    with target.open("wb") as file:
        for chunk in chunks:
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise PublishError(operation="copy", cause=f"{place} is larger than the signed size")
            file.write(chunk)
