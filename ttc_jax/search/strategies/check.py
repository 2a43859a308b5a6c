"""Checks of a strategy before anything is loaded or compiled for it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.plugins import calling
from ttc_jax.search.strategies.strategy import Strategy


def check_strategy(strategy: Strategy, candidates: int, lookahead: int, *, scored: bool) -> None:
    """Refuses a strategy that cannot work with N candidates, or that chooses no rows of theirs.

    Args:
      candidates: N.
      lookahead: k.
      scored: whether there is a verifier.

    Raises:
      UserError: what the strategy itself refuses or raises, rows that are none, or a verifier that
        is lacking.
    """
    name = type(strategy).__name__
    with calling(f"search.strategy: {name}.check"):
        strategy.check(candidates)
    _check_select(strategy, candidates)
    if strategy.stops_at_steps and not scored:
        raise UserError(
            "search.strategy selects by the scores of steps, so it needs a verifier: set "
            "verifier.path, to confidence:log_prob for the generator's own confidence"
        )
    if lookahead and not strategy.stops_at_steps:
        raise UserError("search.lookahead needs a strategy that stops at steps, such as beam")


def _check_select(strategy: Strategy, candidates: int) -> None:
    """Refuses what would be taken for rows: one row for all, a mask, and rows that do not go on."""
    what = f"search.strategy: {type(strategy).__name__}.select"
    rows, key = jnp.zeros(candidates), jax.random.key(0)
    with calling(what):
        chosen = jax.eval_shape(strategy.select, rows, rows > 0, key)
    shape, dtype = getattr(chosen, "shape", None), getattr(chosen, "dtype", bool)
    if shape != rows.shape or not jnp.issubdtype(dtype, jnp.integer):
        raise UserError(
            f"{what} must return {candidates} row numbers, integers of shape {rows.shape}, not "
            f"{chosen}"
        )
    if type(strategy).__module__.startswith(__package__ or ""):
        return  # ours are tested
    with calling(f"search.strategy: {type(strategy).__name__}.survivors"):
        survivors = strategy.survivors(candidates)
    select = jax.jit(strategy.select)
    for scores, active in _examples(candidates):
        with calling(what):
            found = np.asarray(select(jnp.asarray(scores), jnp.asarray(active), key))
        if (different := len(set(found[active].tolist()))) > survivors:
            raise UserError(
                f"{what} returned {different} different rows; .survivors says {survivors} at most"
            )
        for row in found[active]:
            if not (0 <= row < candidates and active[row]):
                going = ", ".join(map(str, np.flatnonzero(active)[:8]))
                raise UserError(
                    f"{what} returned row {row} of {candidates}; active rows must go on from "
                    f"active ones, here of {going}"
                )


def _examples(candidates: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of rows, and which of them are active, as a search may have them."""
    rising = np.linspace(0, 1, candidates, dtype=np.float32)
    everyone = np.ones(candidates, bool)
    first, last = everyone.copy(), everyone.copy()
    first[1:], last[:-1] = False, False
    return [
        (rising, everyone),
        (rising[::-1].copy(), everyone),
        (np.zeros_like(rising), everyone),
        (rising, first),
        (rising[::-1].copy(), last),
        (rising, np.arange(candidates) % 2 == 0),
    ]
