"""Parents: what a strategy is shown, its own state, and the rows that it lets others go on from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ttc_jax.models.indexing import take_along, take_rows
from ttc_jax.sampling.keys import selection_keys
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import SearchState
from ttc_jax.search.strategies.view import STOP, View


def begin_strategy(plan: Plan, questions: int) -> Any:
    """Returns the strategy's state of B questions whose answers begin, arrays [B, ...]."""

    def spread(x: Any) -> Array:
        x = jnp.asarray(x)
        x = lax.convert_element_type(x, x.dtype)  # of no weak type, which a loop would not carry
        return jnp.broadcast_to(x[None], (questions, *x.shape))

    return jax.tree.map(spread, plan.strategy.init(plan.candidates))


def choose_parents(
    plan: Plan, state: SearchState, done: Bool[Array, "G N"]
) -> tuple[Int[Array, "G N"], Bool[Array, "G N"], Any]:
    """Asks the strategy which row each row goes on from.

    A finished row is nobody's parent, nor one that does not exist, whatever a strategy says.

    Args:
      done: rows that are finished or cut off.

    Returns:
      The parents, finished rows with those that the strategy stops now, and its new state.
    """
    N, strategy = plan.candidates, plan.strategy
    keys = selection_keys(state.question.keys, state.progress.round)
    chosen, own = jax.vmap(strategy.update)(_view(plan, state, done), state.strategy, keys)
    chosen = chosen.astype(jnp.int32)
    if strategy.stops_rows:
        done |= chosen == STOP
    fits = ~done & (chosen >= 0) & (chosen < N)
    fits &= ~take_along(done, jnp.clip(chosen, 0, N - 1), 1)
    parents = jnp.where(fits, chosen, jnp.arange(N)[None])
    if strategy.state_follows_rows:
        own = jax.tree.map(lambda x: take_rows(x, parents), own)
    return parents, done, own


def _view(plan: Plan, state: SearchState, done: Bool[Array, "G N"]) -> View:
    """Returns what the strategy sees of each question; what it does not read is not computed."""
    decode, scores, strategy = state.decode, state.scores, plan.strategy
    return View(
        scores=scores.last,
        active=~done,
        history=_history(scores.steps, scores.scored, plan.rounds_per_answer),
        depth=scores.scored.sum(-1, dtype=jnp.int32),
        log_prob=decode.log_prob,
        lengths=decode.cache.length,
        round=state.progress.round - state.progress.began,
        entropy=decode.entropy if strategy.reads_entropy else None,
        hidden=decode.hidden if strategy.reads_hidden else None,
    )


def _history(
    steps: Float[Array, "G N T"], scored: Bool[Array, "G N T"], rounds: int
) -> Float[Array, "G N R"]:
    """Returns the scores that stand at the last tokens of steps, one behind the other."""
    place = jnp.where(scored, jnp.cumsum(scored, -1) - 1, rounds)  # dropped where there is none
    empty = jnp.zeros((*steps.shape[:2], rounds), steps.dtype)
    return jnp.put_along_axis(empty, place, steps, -1, inplace=False, mode="drop")
