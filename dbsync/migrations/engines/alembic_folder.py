"""Alembic's script directory, read from syntax trees: a start with nothing to do does not import Alembic."""

from __future__ import annotations

import ast
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dbsync.errors import BadMigrations
from dbsync.migrations.migration_file import listed, text_of

ENV: Final = "env.py"
VERSIONS: Final = "versions"


class Revision(NamedTuple):
    """One revision, as its file declares it."""

    path: Path
    text: str
    revision: str
    parents: tuple[str, ...]


def revisions_of(folder: Path) -> dict[str, Revision]:
    """Return all revisions of a script directory.

    Raises:
        BadMigrations: a file is not a revision, a revision exists twice, or files are in folders that are not read.
    """
    place = folder / VERSIONS
    if not place.is_dir():
        cause = f"it has no folder {VERSIONS}; other places (version_locations) are not read"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    found: dict[str, Revision] = {}
    for path in listed(place):
        if path.suffix == ".py" and path.name != "__init__.py":
            revision = revision_of(path, text_of(path))
            if revision.revision in found:
                other = found[revision.revision].path.name
                cause = f"revision {revision.revision} is in {other} and in {path.name}"
                raise BadMigrations(operation="read", path=folder, cause=cause)
            found[revision.revision] = revision
        elif path.is_dir() and any(path.rglob("*.py")):
            cause = "Python files in folders within versions are not read (recursive_version_locations)"
            raise BadMigrations(operation="read", path=path, cause=f"{cause}: move them up, or out of it")
    return found


def ordered(folder: Path, revisions: dict[str, Revision]) -> list[Revision]:
    """Return revisions from the base to the head, parents first; of two that may be next, the lower id first.

    Raises:
        BadMigrations: there are several heads, or a parent is missing.
    """
    parents = {parent: revision for revision in revisions.values() for parent in revision.parents}
    missing = sorted(parents.keys() - revisions.keys())
    if missing:
        cause = f"revision {parents[missing[0]].revision} depends on {missing[0]}, which is missing from {VERSIONS}/"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    heads = sorted(revisions.keys() - parents.keys())
    if len(heads) > 1:
        cause = f"it has {len(heads)} heads ({', '.join(heads)}): merge them (`alembic merge`)"
        raise BadMigrations(operation="read", path=folder, cause=cause)
    return list(_ordered(folder, revisions))


def revision_of(path: Path, text: str) -> Revision:
    """Return the revision that one file declares.

    Raises:
        BadMigrations: it declares none, or uses an option that is not supported.
    """
    try:
        said = {name: ast.literal_eval(value) for name, value in _assigned(ast.parse(text, str(path)))}
        parents = said.get("down_revision") or ()
        found = Revision(path, text, str(said["revision"]), (parents,) if isinstance(parents, str) else tuple(parents))
    except (SyntaxError, ValueError, KeyError, TypeError) as cause:
        raise BadMigrations(operation="read", path=path, cause=f"it is no revision of Alembic's: {cause!r}") from cause
    if said.get("depends_on"):
        raise BadMigrations(operation="read", path=path, cause="depends_on is not supported: make it the down_revision")
    return found


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        targets: Sequence[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision", "depends_on") and node.value:  # type: ignore[attr-defined]
                yield target.id, node.value  # type: ignore[attr-defined]


def _ordered(folder: Path, revisions: dict[str, Revision]) -> Iterator[Revision]:
    waiting = {revision.revision: len(revision.parents) for revision in revisions.values()}
    ready = [name for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    done = 0
    while ready:
        current = heapq.heappop(ready)
        done += 1
        yield revisions[current]
        for revision in revisions.values():
            if current in revision.parents:
                waiting[revision.revision] -= 1
                if waiting[revision.revision] == 0:
                    heapq.heappush(ready, revision.revision)
    if done < len(revisions):
        left = sorted(name for name, count in waiting.items() if count > 0)
        cause = f"revision {left[0]} depends on itself"
        raise BadMigrations(operation="read", path=folder, cause=cause)
