"""The flows of the vendor: publishing and refreshing, judged by clients that look after a fault and after a repeat."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.drills.faults.engine import Engine
from tests.drills.faults.flow import Command, Course, Flow
from tests.drills.faults.pictures import unfinished
from tests.drills.faults.promises import Promise, Violation
from tests.drills.faults.stage import Stage, clear, updater
from tests.drills.faults.terminal_scenes import GOOD, UPDATE, bundle
from tests.helpers.vendor import PASSWORD, Vendor
from tests.sample_till.bundles import APP
from updater.repository.trust import begin

LOOK_SECONDS: Final = 30.0
BYTES_PER_SECOND: Final = 1000
OLD_CLIENT: Final = "a client that looked before"
NEW_CLIENT: Final = "a new client"


class Workshop:
    """A vendor who has published 1.0, and two clients."""

    def __init__(self, stage: Stage) -> None:
        self.stage: Final = stage
        self.folder: Final = stage.folder / "workshop"
        self.vendor: Final = Vendor(self.folder)
        self.snapshot: Final = stage.folder / "workshop-before"
        self.bundles: Final = stage.folder / "bundles"
        self.trust: Final = stage.folder / "trust"
        self.looked_before: Final = stage.folder / "trust-before"

    def build(self) -> None:
        """Publish the first release, and let a client look at it."""
        for release in (GOOD, UPDATE):
            bundle(self.bundles / release.version, release)
        self.folder.mkdir()
        ran = self.stage.engine.run(self._publish_first, {})
        if ran.exit_code != 0:
            raise RuntimeError(f"a scene cannot be built: exit status {ran.exit_code}\n{ran.output}")
        shutil.copytree(self.folder, self.snapshot, symlinks=True)
        self.stage.show(self.vendor.public)
        self.look(NEW_CLIENT)
        shutil.copytree(self.trust, self.looked_before)

    def _publish_first(self) -> None:
        self.vendor.init()
        self.vendor.publish(self.bundles / GOOD.version, GOOD.version)

    def reset(self) -> None:
        """Put the workshop back as it was before the flow."""
        clear(self.folder)
        shutil.copytree(self.snapshot, self.folder, symlinks=True, dirs_exist_ok=True)

    def look(self, client: str) -> str:
        """Return the answer and the versions that a client sees."""
        shutil.rmtree(self.trust, ignore_errors=True)
        if client == OLD_CLIENT:
            shutil.copytree(self.looked_before, self.trust)
        else:
            self.trust.mkdir()
            begin(self.trust, (self.snapshot / "public" / "metadata" / "1.root.json").read_bytes())
        return self.stage.engine.run(self._look, {}).output.strip()

    def _look(self) -> None:
        from datetime import UTC, datetime

        from updater.network.manner import Manner
        from updater.repository.client import Source, look

        source = Source(self.stage.url, (), self.trust, APP, LOOK_SECONDS, LOOK_SECONDS, Manner(BYTES_PER_SECOND))
        found = look(source, now=datetime.now(UTC))
        print(found.answer, *sorted(release.version for release in found.releases), found.detail)


class PublishFlow(Flow):
    """One command of the release engineer."""

    def __init__(self, workshop: Workshop, name: str, words: tuple[str, ...], goal: str) -> None:
        self._workshop: Final = workshop
        self._words: Final = words
        self._goal: Final = goal
        """What a client sees when the command succeeded."""
        self.engine: Engine = workshop.stage.engine
        self.name = name
        self.folder = workshop.folder

    def reset(self) -> None:
        self._workshop.reset()

    def command(self) -> Command:
        return updater(*self._words)

    def environment(self, boot: int) -> Mapping[str, str]:
        return {"TILLKEEPER_KEY_PASSWORD": PASSWORD}

    def recovery(self) -> Command:
        return self.command()

    def judge(self, course: Course) -> list[Violation]:
        violations = self.command_violations(course.ran, "the command")
        violations += self._clients("after the command", must_see_goal=course.ran.exit_code == 0)
        repeated = self.engine.run(self.command(), self.environment(1))
        violations += self.command_violations(repeated, "the repeated command")
        if repeated.exit_code != 0:
            text = f"exit status {repeated.exit_code}, {repeated.output.strip()[-240:]!r}"
            violations.append(Violation(Promise.REPEATABLE, text))
        violations += self._clients("after the repeated command", must_see_goal=True)
        left = unfinished(self.folder)
        if left:
            violations.append(Violation(Promise.NO_LITTER, ", ".join(left[:4])))
        return violations

    def _clients(self, when: str, *, must_see_goal: bool) -> list[Violation]:
        found = []
        for client in (OLD_CLIENT, NEW_CLIENT):
            seen = self._workshop.look(client)
            if seen not in (f"OK {GOOD.version}", f"OK {GOOD.version} {UPDATE.version}"):
                found.append(Violation(Promise.WHOLE, f"{when}, {client} sees {seen[-200:]!r}"))
            elif must_see_goal and seen != self._goal:
                found.append(Violation(Promise.TRUTH, f"{when}, {client} sees {seen!r}, not {self._goal!r}"))
        return found


def flows(stage: Stage) -> list[Flow]:
    """Build the workshop and return the flows."""
    workshop = Workshop(stage)
    workshop.build()
    place = ("--repository", str(workshop.vendor.repository))
    update = str(Path(workshop.bundles / UPDATE.version))
    release = ("publish", "release", *place, update, "--version", UPDATE.version, "--unverified")
    return [
        PublishFlow(workshop, "publish", release, f"OK {GOOD.version} {UPDATE.version}"),
        PublishFlow(workshop, "refresh", ("publish", "refresh", *place), f"OK {GOOD.version}"),
    ]
