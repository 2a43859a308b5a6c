"""How long a job takes on its chips, and what it costs, from its programs as they were compiled.

The figures are those of the chips' peaks, with every answer as long as it may become and caches
full. Chips reach a part of their peaks, and answers end early; `ttc run` shows what is left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from ttc_jax.experiments.sections import questions_at_once
from ttc_jax.tpu.program import Program

_HALF = 0.5  # of the peaks: what a plan should allow for


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The time that a job takes at the peaks of its chips.

    Attributes:
      what: is done, such as "500 questions".
      seconds: from the first token to the last.
      chips: that are paid for in that time.
    """

    what: str
    seconds: float
    chips: int

    @property
    def chip_hours(self) -> float:
        """Hours of all chips together."""
        return self.seconds * self.chips / 3600

    def to_json(self, price: float) -> dict[str, Any]:
        """Plain data; `price` is that of a chip for an hour, 0 for none."""
        priced = {"price": price, "cost": price * self.chip_hours} if price else {}
        return dataclasses.asdict(self) | {"chip_hours": self.chip_hours} | priced

    def lines(self, price: float) -> list[str]:
        """Returns it in sentences; `price` is that of a chip for an hour, 0 for none."""
        found = [f"{self.what}:"]
        for share, where in ((1.0, "at the chips' peaks"), (_HALF, "at half of them")):
            hours = self.chip_hours / share
            cost = f", {price * hours:,.2f} at --price={price:g}" if price else ""
            found.append(
                f"  {where} {_duration(self.seconds / share)} on {self.chips} chips, "
                f"{hours:,.2f} chip-hours{cost}"
            )
        return found


def estimate(
    config: ConfigDict,
    searches: Sequence[ConfigDict],
    programs: Sequence[Program],
    *,
    questions: int = 0,
    hosts: int = 1,
    chips: int,
) -> Estimate | None:
    """Returns what a training, or searches, take; None for others, or where programs lack.

    Args:
      config: of the job.
      searches: the config of each, such as those of a sweep's cells. Of one with fewer rows than
        the compiled one a token reads less of the caches.
      programs: of the training, or of the largest search.
      questions: of each search; 0: those that the config names, None is returned where it does not.
      hosts: that share questions, or steps.
      chips: of each.
    """
    bounds = {program.name: max(program.bounds.values()) for program in programs}
    if "update" in bounds:
        steps = config.train.steps
        return Estimate(f"{steps:,} steps", steps * bounds["update"], hosts * chips)
    questions = questions or config.get("limit", 0) or config.task.get("size", 0)
    if not questions or not searches or not {"segment", "admit"} <= set(bounds):
        return None
    segment = next(program for program in programs if program.name == "segment")
    full = segment.weight_bytes + segment.cache_bytes
    most = max(map(_rows, searches))
    seconds = 0.0
    for run in searches:
        waves = math.ceil(questions / (hosts * questions_at_once(run, run.sampling.n)))
        tokens = run.sampling.max_new_tokens * run.search.revisions * (1 + run.search.lookahead)
        read = segment.weight_bytes + segment.cache_bytes * _rows(run) / most
        seconds += waves * tokens * bounds["segment"] * read / full
        seconds += questions / (hosts * run.execution.mesh.data) * bounds["admit"]
    what = f"{questions:,} questions, every answer as long as it may become"
    what = f"{len(searches)} searches of {what}" if len(searches) > 1 else what
    return Estimate(what, seconds, hosts * chips)


def _rows(run: ConfigDict) -> int:
    return questions_at_once(run, run.sampling.n) * run.sampling.n


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:,.1f} minutes"
    return f"{seconds / 3600:,.1f} hours"
