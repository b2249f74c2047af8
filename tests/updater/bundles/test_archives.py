"""Archives that a vendor signed and that no terminal can use: each is refused by name, and bounded in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from dbsync.errors import Refused
from dbsync.facts import Sha256
from tests.helpers.vendor import Vendor
from tests.sample_till.bundles import APP
from updater.bundles import archives
from updater.bundles.version_folders import Versions
from updater.manifest import VALUES_LIMIT, FileEntry, ManifestError, parse, to_bytes

Change = Callable[[tarfile.TarFile], None]


def added(tar: tarfile.TarFile, name: str, data: bytes = b"one", kind: bytes = tarfile.REGTYPE) -> None:
    """Adds one member."""
    member = tarfile.TarInfo(name)
    member.size, member.type = len(data), kind
    tar.addfile(member, io.BytesIO(data))


def with_a_file_twice(tar: tarfile.TarFile) -> None:
    added(tar, "a.txt")
    added(tar, "a.txt")


def with_a_long_name(tar: tarfile.TarFile) -> None:
    added(tar, "x", bytes(50_000_000), tarfile.XHDTYPE)
    added(tar, "a.txt")


def with_a_long_gnu_name(tar: tarfile.TarFile) -> None:
    added(tar, "x", b"a" * 50_000_000, tarfile.GNUTYPE_LONGNAME)
    added(tar, "a.txt")


def with_folders_without_end(tar: tarfile.TarFile) -> None:
    for number in range(archives.EXTRA_COUNT + 100):
        added(tar, f"{number}", b"", tarfile.DIRTYPE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_a_file_twice, "two of its names are one file"),
        (with_a_long_name, "a header with 50000000 bytes"),
        (with_a_long_gnu_name, "a header with 50000000 bytes"),
        (with_folders_without_end, "members for 2 files"),
    ],
)  # fmt: skip
def test_an_archive_that_no_terminal_can_use_is_refused(
    tmp_path: Path, change: Change, words: str, first_release: Vendor
) -> None:
    entry = FileEntry(3, Sha256(hashlib.sha256(b"one").hexdigest()), 0o644)
    signed = first_release.repository / "workshop" / "targets" / f"{APP}-1.0.manifest"
    described = parse(signed.read_bytes(), installed=True)._replace(files={"a.txt": entry, "b/c.txt": entry})
    path = tmp_path / "a.archive"
    with gzip.open(path, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        change(tar)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=words):
            Versions(tmp_path / "program").unpack(path, described, to_bytes(described))
        assert tracemalloc.get_traced_memory()[1] < 25_000_000
    finally:
        tracemalloc.stop()
    assert list((tmp_path / "program" / "versions").iterdir()) == []


def test_a_manifest_of_more_values_than_files_need_is_refused_before_it_is_read() -> None:
    """JSON of short values takes 25 times its bytes."""
    data = b'{"format": 1, "x": [' + b"1," * (VALUES_LIMIT + 1) + b"1]}"
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError) as caught:
            parse(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert "more than 1000000 values" in caught.value.cause
