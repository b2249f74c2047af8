"""The vendor's steering document as bytes, and as it goes from the child that verified it to the agent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from updater.decisions.rollout import NO_BRAKE, Document, Said, parse, parse_brake


def document_of(data: bytes, *, app: str) -> Document:
    """Return the document in verified bytes.

    Raises:
        ValueError: it is none that this agent can follow.
    """
    try:
        return parse(json.loads(data, object_pairs_hook=_unique), app=app)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def said_of(found: object, *, app: str) -> Said:
    """Return what the vendor says, from the child's answer or the last one that is kept.

    A brake that cannot be read stops: the vendor who signed it meant to stop something.
    """
    if not isinstance(found, Mapping):
        return Said(problem="the vendor's steering document could not be read")
    document, problem, brake = None, str(found.get("problem") or ""), NO_BRAKE
    try:
        if isinstance(text := found.get("document"), str):
            document = document_of(text.encode(), app=app)
        brake = parse_brake(found.get("brake"))
    except ValueError as cause:
        problem = problem or f"the vendor's steering is not followed: {cause}"
    return Said(document, problem, brake)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found
