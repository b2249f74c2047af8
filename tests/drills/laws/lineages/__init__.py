"""Three apps of five versions, as a vendor would write them; `COUNTED` has what every version must agree about."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.drills.laws.lineages import kitchen, loyalty, pos


class Lineage(NamedTuple):
    """The migrations of one app."""

    name: str
    migrations: tuple[str, ...]
    """By version, from 1; Python where the text begins with a docstring."""
    counted: dict[str, tuple[str, ...]]
    """Queries that give the same in every version: the query of each version, for each name."""


LINEAGES: Final = {
    module.NAME: Lineage(module.NAME, module.MIGRATIONS, module.COUNTED) for module in (pos, loyalty, kitchen)
}
