"""What a terminal follows of the vendor's steering: tables of values, and documents that are none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.places import ROOT
from updater.answers import Answer, Catalog, Offer
from updater.decisions.agent import Wait, decide_agent
from updater.decisions.rollout import (
    Brake,
    Channel,
    Direction,
    Document,
    Said,
    Steered,
    direct,
    document_json,
    parse,
    parse_brake,
)
from updater.model import Facts, Issued, Journal, Phase, Release, ReleaseId, SchemaNumber, State, Trial, TrialId, View
from updater.repository.steering import document_of, said_of

APP = "till"
A, B, C = (ReleaseId(letter * 64) for letter in "abc")
DOCUMENT = Document(APP, 7, "2026-11-30T12:00:00Z", {"stable": Channel(A), "beta": Channel(B)})
STEERED = Steered("1.2", recalled=True, reason="prints twice")


@pytest.mark.parametrize(
    ("said", "channel", "expected"),
    [
        (Said(), "stable", Direction(is_newest=True)),
        (Said(), "beta", Direction(is_newest=True)),
        (Said(DOCUMENT), "stable", Direction(A)),
        (Said(DOCUMENT), "beta", Direction(B)),
        (Said(DOCUMENT), "canary", Direction(A)),
        (Said(DOCUMENT._replace(channels={"beta": Channel(B)})), "stable", Direction()),
        (Said(DOCUMENT._replace(channels={})), "beta", Direction()),
        (Said(None, "it is torn"), "stable", Direction(stays="it is torn")),
        (Said(DOCUMENT._replace(paused=True)), "stable", Direction(A, paused="the vendor paused updates")),
        (
            Said(DOCUMENT._replace(paused=True, reason="Black Friday")), "stable",
            Direction(A, paused="the vendor paused updates: Black Friday"),
        ),
        (Said(DOCUMENT, brake=Brake((APP,))), "beta", Direction(B, paused="the vendor paused updates by the brake")),
        (Said(DOCUMENT, brake=Brake(("other",))), "stable", Direction(A)),
        (Said(DOCUMENT, brake=Brake((), (A,))), "stable", Direction(A, recalled={A: ""})),
        (Said(DOCUMENT._replace(releases={C: STEERED})), "stable", Direction(A, recalled={C: "prints twice"})),
        (Said(DOCUMENT._replace(releases={C: STEERED._replace(recalled=False)})), "stable", Direction(A)),
        (
            Said(DOCUMENT._replace(releases={C: STEERED}), brake=Brake((), (C, B))), "stable",
            Direction(A, recalled={C: "prints twice", B: ""}),
        ),
        (
            Said(None, "it is torn", Brake((APP,), (B,))), "stable",
            Direction(stays="it is torn", paused="the vendor paused updates by the brake", recalled={B: ""}),
        ),
        (Said(brake=Brake((), (B,))), "stable", Direction(is_newest=True, recalled={B: ""})),
    ],
)  # fmt: skip
def test_a_terminal_follows_the_first_rule_that_stops_it(said: Said, channel: str, expected: Direction) -> None:
    assert direct(said, app=APP, channel=channel) == expected


@pytest.mark.parametrize(
    ("document", "channel", "stays"),
    [
        (DOCUMENT._replace(needs=("lanes",)), "stable", "lanes"),
        (DOCUMENT._replace(channels={"stable": Channel(A, ("rings", "percent"))}), "stable", "percent, rings"),
        (DOCUMENT._replace(channels={"stable": Channel(A), "beta": Channel(B, ("percent",))}), "stable", ""),
        (DOCUMENT._replace(channels={"stable": Channel(A), "beta": Channel(B, ("percent",))}), "beta", "percent"),
        (DOCUMENT._replace(releases={A: Steered("1.1", recalled=False, needs=("percent",))}), "stable", "percent"),
        (DOCUMENT._replace(releases={C: Steered("1.3", recalled=False, needs=("percent",))}), "stable", ""),
    ],
)
def test_a_later_field_that_must_be_understood_stops_only_what_it_is_about(
    document: Document, channel: str, stays: str
) -> None:
    found = direct(Said(document._replace(releases={**document.releases, B: STEERED})), app=APP, channel=channel)
    assert found.stays == (f"the vendor's steering needs a newer Tillkeeper: {stays}" if stays else "")
    assert found.recalled == {B: "prints twice"}, "what stops is obeyed all the same"


def test_a_later_field_that_need_not_be_understood_is_left_aside() -> None:
    data = document_json(DOCUMENT._replace(releases={C: STEERED}))
    more = copy.deepcopy(data)
    more["terminals"] = {"store-7": {"hold": True}}
    more["channels"]["stable"] |= {"lower": True}
    more["releases"][C] |= {"percent": 5, "rings": ["canary"]}
    assert parse(more, app=APP) == parse(data, app=APP) == DOCUMENT._replace(releases={C: STEERED})


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.pop(name)


def put(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.__setitem__(name, value)


MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no format": drop("format"), "no app": drop("app"), "no sequence": drop("sequence"), "no date": drop("issued_at"),
    "no channels": drop("channels"), "a newer format": put("format", 2), "true as a format": put("format", True),
    "another app": put("app", "other"), "a sequence of text": put("sequence", "9"), "no number": put("sequence", 1.5),
    "true as a sequence": put("sequence", True), "below one": put("sequence", 0), "huge": put("sequence", 2**53),
    "channels in a list": put("channels", []), "a channel of text": put("channels", {"stable": A}),
    "a channel to nowhere": put("channels", {"stable": {}}),
    "a name in capitals": put("channels", {"S": {"release": A}}),
    "a long name": put("channels", {"s" * 41: {"release": A}}), "no name": put("channels", {"": {"release": A}}),
    "half an id": put("channels", {"stable": {"release": A[:63]}}),
    "an id in capitals": put("releases", {"A" * 64: {}}),
    "paused as text": put("paused", "no"), "a reason in two lines": put("reason", "a\nb"),
    "a reason without an end": put("reason", "a" * 201), "releases in a list": put("releases", [C]),
    "recalled as a number": put("releases", {C: {"recalled": 1}}), "needs as text": put("needs", "percent"),
    "needs a number": put("releases", {C: {"needs": [1]}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_document_that_is_none_is_refused(kind: str) -> None:
    data = document_json(DOCUMENT)
    parse(data, app=APP)
    MALFORMED[kind](data)
    with pytest.raises(ValueError, match=r"."):
        parse(data, app=APP)


def test_a_name_that_stands_twice_is_refused() -> None:
    text = json.dumps(document_json(DOCUMENT))
    assert document_of(text.encode(), app=APP) == DOCUMENT
    with pytest.raises(ValueError, match="a name stands in it twice"):
        document_of(f'{text[:-1]}, "paused": true}}'.encode(), app=APP)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"format": 1, "format": 1}', '"\ud800"'])
def test_bytes_that_are_no_document_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        document_of(text.encode(errors="surrogatepass"), app=APP)


@pytest.mark.parametrize(
    "brake", [1, [], "on", {"paused": "till"}, {"paused": [1]}, {"recalled": [A[:5]]}, {"paused": {}}]
)
def test_a_brake_that_cannot_be_read_stops(brake: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_brake(brake)
    said = said_of({"document": json.dumps(document_json(DOCUMENT)), "problem": "", "brake": brake}, app=APP)
    assert direct(said, app=APP, channel="stable").stays


@pytest.mark.parametrize("found", [None, [], "", 5])
def test_a_child_that_says_nothing_of_the_steering_is_not_followed(found: Any) -> None:
    assert direct(said_of(found, app=APP), app=APP, channel="stable").stays


# -------------------------------------------------------------------------------------------------- the agent's steps

GOOD, NEXT = Release(A, "1", SchemaNumber(2)), Release(B, "2", SchemaNumber(2))
FIRST = TrialId("000001-x")
JOURNALS = {
    "idle": Journal(Phase.IDLE, GOOD),
    "staged": Journal(Phase.STAGED, GOOD, NEXT),
    "swapped": Journal(Phase.SWAPPED, GOOD, NEXT, FIRST, last=1),
}
CATALOG = Catalog(Answer.OK, "", (Offer(NEXT, 1),), frozenset({A, B, C}))
QUIET = CATALOG._replace(newer=())


def decided(place: str, catalog: Catalog) -> str:
    """The name of the agent's step, and the outcome if it waits."""
    journal = JOURNALS["swapped" if place == "begun" else place]
    issued = (Issued(1, FIRST, NEXT, GOOD, "2026-11-30T12:00:00Z"),) if journal.trial_id else ()
    trials = (Trial(FIRST, NEXT, GOOD, attempts_count=1),) if place == "begun" else ()
    view = View(
        journal=journal, trials=trials, proofs=(), rejections=(), database=Facts(State.OK, SchemaNumber(2)),
        running=None, boot_id="", installed=frozenset({GOOD.folder, NEXT.folder}), issued=issued,
        unfolded=frozenset(one.trial_id for one in issued),
    )  # fmt: skip
    step = decide_agent(view, catalog, now="2026-11-30T13:00:00Z")
    return f"Wait {step.outcome}" if isinstance(step, Wait) else type(step).__name__


OFFLINE = Catalog(Answer.OFFLINE, "no line")
PAUSED, REFUSED = "Wait PAUSED_BY_VENDOR", "Wait STEERING_REFUSED"
ON_TRIAL, SWAPPED, NOTHING = "Wait ON_TRIAL", "Wait SWAPPED", "Wait NOTHING_NEW"
WITHOUT: dict[ReleaseId, str] = {B: "r"}
TABLE = [
    # what the vendor says                                  idle            staged     swapped    begun
    (CATALOG,                                               "Stage",        "Swap",    SWAPPED,   ON_TRIAL),
    (QUIET._replace(paused="p"),                            PAUSED,         PAUSED,    "Unswap",  ON_TRIAL),
    (OFFLINE._replace(paused="p"),                          PAUSED,         PAUSED,    "Unswap",  ON_TRIAL),
    (OFFLINE,                                               "Wait OFFLINE", "Swap",    SWAPPED,   ON_TRIAL),
    (QUIET._replace(withdrawn=WITHOUT),                     NOTHING,        "Unstage", "Unstage", "TakeBack"),
    (OFFLINE._replace(withdrawn=WITHOUT),                   "Wait OFFLINE", "Unstage", "Unstage", "TakeBack"),
    (QUIET._replace(signed=frozenset({A})),                 NOTHING,        "Unstage", "Unstage", "TakeBack"),
    (QUIET._replace(paused="p", withdrawn=WITHOUT),         PAUSED,         "Unstage", "Unstage", "TakeBack"),
    (QUIET._replace(unwanted=frozenset({B})),               NOTHING,        "Unstage", "Unstage", ON_TRIAL),
    (QUIET._replace(stays="s"),                             REFUSED,        REFUSED,   SWAPPED,   ON_TRIAL),
    (QUIET._replace(stays="s", paused="p"),                 REFUSED,        REFUSED,   "Unswap",  ON_TRIAL),
    (QUIET._replace(stays="s", withdrawn=WITHOUT),          REFUSED,        "Unstage", "Unstage", "TakeBack"),
]  # fmt: skip


@pytest.mark.parametrize(("catalog", "idle", "staged", "swapped", "begun"), TABLE)
def test_the_agent_stops_where_the_vendor_says_so(
    catalog: Catalog, idle: str, staged: str, swapped: str, begun: str
) -> None:
    assert [decided(place, catalog) for place in (*JOURNALS, "begun")] == [idle, staged, swapped, begun]


def test_the_format_is_in_the_docs_as_it_is() -> None:
    text = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
    for name in (*document_json(DOCUMENT), "needs", "recalled", "x-tillkeeper-brake"):
        assert f"`{name}`" in text, name
