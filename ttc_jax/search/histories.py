"""Histories: whether caches store what rows have from one parent once, and how much room it takes.

Where a strategy lets N rows go on from at most N / M, a `SharedCache` holds N / M histories of all
that was written, and of each row one step.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.models.cache import KVCache
from ttc_jax.models.shared_cache import SharedCache
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import SearchTrace
from ttc_jax.search.strategies import name_of

FEW_ROWS = 16  # fewer read so little that sharing is not worth its bookkeeping
WORTH = 0.75  # of the slots that rows take apart


def histories_of(plan: Plan, cache: str) -> int:
    """Returns Q, the histories of a question; 0: every row keeps all of its own.

    With "auto" they are shared where that takes at most `WORTH` of the slots, from `FEW_ROWS` rows
    on: a rule of shapes alone.

    Args:
      cache: as `Execution.cache`.

    Raises:
      UserError: "shared", and rows cannot share histories.
    """
    N = plan.candidates
    survivors = plan.strategy.survivors(N) if plan.strategy.stops_at_steps else N
    reason = ""
    if not 0 < survivors < N or N % survivors:
        reason = (
            f"{name_of(plan.strategy)} lets {N} candidates go on from any number of them; choose "
            "beam or dvts, with an M of 2 or more"
        )
    elif plan.revisions > 1:
        reason = f"search.revisions={plan.revisions} reads earlier answers into them"
    if cache == "shared" and reason:
        raise UserError(f"execution.cache=shared: {reason}; or set execution.cache=auto")
    if not cache or reason:
        return 0
    slots = survivors * plan.max_new_tokens + N * (1 + plan.lookahead) * plan.step
    pays = N >= FEW_ROWS and slots <= WORTH * N * plan.max_new_tokens
    return survivors if cache == "shared" or pays else 0


def shared(state: Any, histories: int, step: int, capacity: int | None = None) -> Any:
    """Returns a state whose caches share histories; as it is where there are none.

    Args:
      state: a pytree that holds `KVCache`s as they were forked.
      step: tokens that a row adds at most between two selection steps.
      capacity: tokens that there is room for, where what is read last may hang over: as much as a
        cache has beyond them, it gets beyond a step too.
    """
    if not histories:
        return state

    def share(x: Any) -> Any:
        if not isinstance(x, KVCache):
            return x
        more = 0 if capacity is None else x.suffix[0].values.shape[3] - capacity
        # A row that rests at the end of its step writes too, though nothing sees it.
        return SharedCache.of(x, histories, step + max(more, 1))

    return jax.tree.map(share, state, is_leaf=lambda x: isinstance(x, KVCache))


def check_shared(histories: int, trace: SearchTrace, strategy: str) -> None:
    """Refuses a question whose rows did not find room at so many histories.

    Args:
      trace: of the question, [R, N].
      strategy: its name.

    Raises:
      UserError: more rows were gone on from, or one by more rows, than the strategy promised.
    """
    if not histories:
        return
    N = trace.parents.shape[1]
    going = trace.ends[1:] > trace.starts[1:]  # rows that a selection step let go on
    for parents, live in zip(trace.parents, going, strict=False):
        counts = np.bincount(parents[live], minlength=N)
        if (counts > 0).sum() > histories or counts.max() > N // histories:
            raise UserError(
                f"search.strategy: {strategy}.survivors promised that {N} rows go on from "
                f"{histories} at most, by {N // histories} each; set execution.cache= (empty)"
            )
