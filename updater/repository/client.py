"""Queries of the repository in a child with a hard deadline: the parent stays small, and its kill bounds everything."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dbsync.errors import Refused, TryLater, shown
from dbsync.storage import children, file_calls
from dbsync.storage.platform import this_platform
from dbsync.storage.raw_text import lines_of
from updater.answers import Answer
from updater.manifest import Manifest, ManifestError, parse, release_id
from updater.model import Limits, ReleaseId, Sha256


class Source(NamedTuple):
    """Addresses of a repository, and limits for asking it."""

    url: str
    mirrors: tuple[str, ...]
    trust_folder: Path
    app: str
    """Empty for all apps of the repository."""
    look_seconds: float
    fetch_seconds: float
    minimum_bytes_per_second: int


class Signed(NamedTuple):
    """Release as listed in the signed metadata."""

    manifest: Manifest
    manifest_bytes: bytes
    release_id: ReleaseId
    archive_name: str
    archive_path: str
    archive_size_bytes: int
    archive_sha256: Sha256


class Looked(NamedTuple):
    """Result of a look."""

    answer: Answer
    detail: str
    releases: tuple[Signed, ...] = ()


class Fetched(NamedTuple):
    """Result of a download."""

    answer: Answer
    detail: str
    path: Path | None = None
    fetched_bytes: int = 0


def look(source: Source, *, now: datetime) -> Looked:
    """Return the result of one look: all signed releases from refreshed, verified metadata, or the cause of failure."""
    request = {
        "do": "look",
        "bases": [source.url, *source.mirrors],
        "app": source.app,
        "trust_folder": str(source.trust_folder),
        "now": now.isoformat(),
        "minimum_bytes_per_second": source.minimum_bytes_per_second,
    }
    answer = _ask(request, limit_seconds=source.look_seconds, progress=lambda _: None)
    try:
        found = [_signed(offer) for offer in answer.get("offers", ())]
    except OSError as cause:
        return Looked(Answer.TROUBLE, f"a manifest cannot be read: {cause.filename}: {cause.strerror or cause}")
    return Looked(Answer(answer["answer"]), answer["detail"], tuple(signed for signed in found if signed is not None))


def app_of(url: str, root: bytes, *, named: str | None = None, mirrors: tuple[str, ...] = ()) -> str:
    """Return the name of an app of which a repository has releases, verified against a trusted root.

    Args:
        url: the repository.
        root: the trusted root, whole.
        named: the app; None for the only one.
        mirrors: further places of the same repository.

    Raises:
        TryLater: the repository cannot be asked now.
        Refused: the repository does not pass verification, has no release of the named app, or without a name has
            releases of no app or of several.
    """
    with tempfile.TemporaryDirectory() as folder:
        file_calls.write_bytes(Path(folder) / "root.json", root)
        limits = Limits()
        source = Source(url, mirrors, Path(folder), "", limits.look_seconds, 0, limits.minimum_bytes_per_second)
        found = look(source, now=datetime.now(UTC))
    if found.answer is not Answer.OK:
        kind = Refused if found.answer is Answer.REFUSED else TryLater
        raise kind(operation="install", cause=f"{found.answer}: {found.detail}")
    apps = sorted({release.manifest.app for release in found.releases})
    if named in apps:
        return named
    if len(apps) != 1 or named is not None:
        cause = f"the repository at {url} has releases of {', '.join(apps) or 'no app'}"
        cause += f", and none of {named}" if named is not None else ""
        raise Refused(operation="install", cause=cause, hint="Say which with --app NAME.")
    return apps[0]


def fetch(source: Source, wanted: Signed, *, to: Path, progress: Callable[[int, int], None]) -> Fetched:
    """Download a release's archive into the folder `to`; resume an earlier, unfinished download."""
    target = to / wanted.archive_name
    request = {
        "do": "fetch",
        "bases": [source.url, *source.mirrors],
        "path": wanted.archive_path,
        "target": str(target),
        "size_bytes": wanted.archive_size_bytes,
        "sha256": wanted.archive_sha256,
        "minimum_bytes_per_second": source.minimum_bytes_per_second,
    }
    answer = _ask(
        request, limit_seconds=source.fetch_seconds, progress=lambda line: progress(line["done"], line["total"])
    )
    done = answer["answer"] == Answer.OK
    return Fetched(Answer(answer["answer"]), answer["detail"], target if done else None, answer.get("fetched_bytes", 0))


def _signed(found: dict[str, Any]) -> Signed | None:
    """Return a signed release; None if this agent does not understand its manifest, as a newer agent may."""
    data = file_calls.read_bytes(Path(found["manifest"]))
    try:
        manifest = parse(data)
    except ManifestError:
        return None
    return Signed(
        manifest,
        data,
        release_id(data),
        found["archive_name"],
        found["archive_path"],
        found["archive_size_bytes"],
        found["archive_sha256"],
    )


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line of the child's; an empty value for one that it did not mean as an answer."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _kill(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    this_platform().end_tree(child)


def _ask(
    request: dict[str, Any], *, limit_seconds: float, progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    try:
        child = this_platform().start_tree(
            children.command("updater.repository.child"),
            cwd=children.FOLDER,
            env=children.isolated(),
            source=subprocess.PIPE,
            output=subprocess.PIPE,
            errors=subprocess.PIPE,
        )
    except (OSError, children.NoPython) as cause:
        return {"answer": Answer.TROUBLE, "detail": f"the child could not start: {shown(cause)}"}
    late = threading.Event()
    # SIGKILL, not SIGTERM: a child that waits for a silent name server would not react.
    timer = threading.Timer(limit_seconds, _kill, (child, late))
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(child.stderr.read()), daemon=True)  # type: ignore[union-attr]
    timer.start()
    reader.start()
    last: dict[str, Any] = {}
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            # Left open: when this process dies in any way, its end of the pipe closes and the child ends too.
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except OSError:
            # The child died before it read the request; its error output is used below.
            pass
        for line in child.stdout:
            last = _parsed(line)
            if "done" in last:
                progress(last)
        child.wait()
        reader.join()
    timer.cancel()
    if "answer" in last:
        return last
    if late.is_set():
        return {"answer": Answer.TIMED_OUT, "detail": f"nothing came of it within {limit_seconds:.0f} seconds"}
    words = lines_of(errors[0].decode(errors="replace").strip()) if errors else []
    return {
        "answer": Answer.TROUBLE,
        "detail": f"the child ended with {child.returncode}: {words[-1] if words else ''}",
    }
