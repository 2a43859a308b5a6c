"""Records cut down to what accuracies, policies and costs are computed from, to keep and to share.

Independent samples stay, since any part of them is a smaller budget, and so do chains, with the
score of their last step and their answers numbered; of a search the answer that one selection rule
chooses stays alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from ttc_jax.results.credit import as_pool
from ttc_jax.results.records import DIFFICULTY, POOL, Candidate, Record
from ttc_jax.results.selection import answer_ids, shares


def outcome(record: Record, rule: str, pools: Collection[str] = (POOL, DIFFICULTY)) -> Record:
    """Returns a record that gives the same accuracy by a rule, at the same cost, in less space.

    Where a rule is torn between answers, the first of them stays: such a search is then right or
    wrong, and no longer right in part.

    Args:
      rule: of `RULES`; it reads the scores of last steps.
      pools: strategies whose candidates are independent.

    Raises:
      UserError: as `shares`.
    """
    record = record.settled
    kept = record.candidates
    if record.strategy not in pools and record.sequential == 1:
        pool = as_pool(record)
        kept = (kept[int(shares(rule, pool.answers, pool.scores).argmax())],)
    numbers = answer_ids([candidate.answer for candidate in kept]).tolist()
    return dataclasses.replace(
        record,
        candidates=tuple(_short(x, number) for x, number in zip(kept, numbers, strict=True)),
        tree=(),
    )


def _short(candidate: Candidate, number: int) -> Candidate:
    return Candidate(
        tokens=(),
        text="",
        finished=candidate.finished,
        log_prob=0.0,
        step_scores=candidate.step_scores[-1:],
        answer=None if candidate.answer is None else str(number),
        correct=candidate.correct,
        unboxed=candidate.unboxed,
        token_count=candidate.generated,
    )
