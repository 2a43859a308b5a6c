"""Names, colours and markers of strategies and rules: the same in all figures of a report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ttc_jax.report.console import label
from ttc_jax.report.style import CEILING, COLORS

POOL, _PASS = "best_of_n", "pass"


class Look(NamedTuple):
    """A line's name, colour and marker."""

    label: str
    color: str
    marker: str


def known_as(name: str, summary: Mapping[str, Any]) -> str:
    """Returns what a line of a summary shows: of independent samples the rule that chooses.

    The strategy best_of_n is no rule. Where a summary says which rule chose among its samples, the
    line is that rule's, as it is where rules are compared on the same samples.
    """
    return summary.get("rule") or name if name == POOL else name


@dataclasses.dataclass(frozen=True)
class Looks:
    """The looks of all lines of a report.

    Attributes:
      places: name, as `known_as` gives it -> place in `COLORS`.
    """

    places: Mapping[str, int]

    @classmethod
    def of(cls, summaries: Iterable[Mapping[str, Any]]) -> Looks:
        """Returns the looks of the lines of some summaries.

        There are more names than colours: two share one only where no figure shows both, as long
        as a figure has no more lines than there are colours. The first figures' names choose first.
        """
        figures = []
        for summary in summaries:
            lines = [known_as(name, summary) for name in summary.get("accuracy", {})]
            figures += [lines, list(summary.get("choosing", {}).get("accuracy", {}))]
        places: dict[str, int] = {}
        for name in dict.fromkeys(name for lines in figures for name in lines if name != _PASS):
            beside = {other for lines in figures if name in lines for other in lines}
            taken, all_taken = (
                Counter(place for other, place in places.items() if other in some)
                for some in (beside, places)
            )
            places[name] = min(range(len(COLORS)), key=lambda i: (taken[i], all_taken[i]))
        return cls(places)

    def look(self, name: str, summary: Mapping[str, Any]) -> Look:
        """Returns the look of a line of a summary."""
        name = known_as(name, summary)
        if name == _PASS:
            return Look(label(name), *CEILING)
        return Look(label(name), *COLORS[self.places[name]])
