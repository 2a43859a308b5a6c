"""Checks of a strategy before anything is loaded or compiled for it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttc_jax.errors import UserError
from ttc_jax.plugins import calling
from ttc_jax.search.strategies.strategy import Strategy
from ttc_jax.search.strategies.view import STOP, View

ROUNDS, WIDTH = 3, 8  # R and D of the views that strategies are tried with


def check_strategy(strategy: Strategy, candidates: int, lookahead: int, *, scored: bool) -> None:
    """Refuses a strategy that cannot work with N candidates, or that chooses no rows of theirs.

    Args:
      candidates: N.
      lookahead: k.
      scored: whether there is a verifier.

    Raises:
      UserError: what the strategy itself refuses or raises, rows that are none, a state that does
        not stay as it is, or a verifier that is lacking.
    """
    with calling(f"{_called(strategy)}.check"):
        strategy.check(candidates)
    _check_shapes(strategy, candidates)
    if not type(strategy).__module__.startswith(__package__ or ""):  # ours are tested
        _check_choices(strategy, candidates)
    if strategy.stops_at_steps and not scored:
        raise UserError(
            "search.strategy selects by the scores of steps, so it needs a verifier: set "
            "verifier.path, to confidence:log_prob for the generator's own confidence"
        )
    if lookahead and not strategy.stops_at_steps:
        raise UserError("search.lookahead needs a strategy that stops at steps, such as beam")


def _called(strategy: Strategy, *methods: str) -> str:
    """Returns what errors call a strategy, and the method of it that users have written."""
    found = [x for x in methods if getattr(type(strategy), x) is not getattr(Strategy, x)]
    return ".".join([f"search.strategy: {type(strategy).__name__}", *(found or methods[-1:])[:1]])


def _check_shapes(strategy: Strategy, candidates: int) -> None:
    """Refuses what would be taken for rows: one row for all, a mask, and other than `init`'s state.

    Nothing is compiled for it.
    """
    rows, key = (candidates,), jax.eval_shape(lambda: jax.random.key(0))
    view = jax.eval_shape(lambda: _view(strategy, jnp.zeros(rows), jnp.ones(rows, bool)))
    with calling(f"{_called(strategy)}.init"):
        state = jax.eval_shape(lambda: _begun(strategy, candidates))
    what = _called(strategy, "update", "select")
    with calling(what):
        found = jax.eval_shape(strategy.update, view, state, key)
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(f"{what} must return a pair, the rows and the state, not {found}")
    chosen, after = found
    shape, dtype = getattr(chosen, "shape", None), getattr(chosen, "dtype", bool)
    if shape != rows or not jnp.issubdtype(dtype, jnp.integer):
        raise UserError(
            f"{what} must return {candidates} row numbers, integers of shape {rows}, not {chosen}"
        )
    if _shown(after) != _shown(state):
        raise UserError(
            f"{what} must return a state like that of init, which is {_shown(state)}, not "
            f"{_shown(after)}"
        )
    if strategy.state_follows_rows and any(x.shape[:1] != rows for x in jax.tree.leaves(state)):
        raise UserError(
            f"{_called(strategy)}.init must return arrays of {candidates} rows, since "
            f"state_follows_rows is set, not {_shown(state)}"
        )


def _shown(state: Any) -> str:
    """Returns the structure of a state with the types and shapes of its arrays, in one line."""
    shown = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", state)
    return " ".join(str(shown).replace("'", "").split())


def _check_choices(strategy: Strategy, candidates: int) -> None:
    """Refuses rows that do not go on, and more of them than the strategy promises."""
    with calling(f"{_called(strategy)}.survivors"):
        survivors = strategy.survivors(candidates)
    what, key = _called(strategy, "update", "select"), jax.random.key(0)
    update = jax.jit(strategy.update)
    for scores, active in _examples(candidates):
        view, state = _view(strategy, jnp.asarray(scores), jnp.asarray(active)), None
        for _ in range(2):  # the second one with a state that has changed
            with calling(what):
                state = _begun(strategy, candidates) if state is None else state
                found, state = update(view, state, key)
                chosen = np.asarray(found)[active]
            if strategy.stops_rows:
                chosen = chosen[chosen != STOP]
            if (different := len(set(chosen.tolist()))) > survivors:
                raise UserError(
                    f"{what} returned {different} different rows; .survivors says {survivors} at "
                    "most"
                )
            for row in chosen:
                if not (0 <= row < candidates and active[row]):
                    going = ", ".join(map(str, np.flatnonzero(active)[:8]))
                    raise UserError(
                        f"{what} returned row {row} of {candidates}; active rows must go on from "
                        f"active ones, here of {going}"
                    )


def _begun(strategy: Strategy, candidates: int) -> Any:
    return jax.tree.map(jnp.asarray, strategy.init(candidates))


def _view(strategy: Strategy, scores: jax.Array, active: jax.Array) -> View:
    """Returns what a strategy may see after the first step, which has two tokens."""
    N, number = len(scores), jnp.arange(len(scores), dtype=jnp.float32)
    hidden = jnp.sin(jnp.add.outer(number, jnp.arange(WIDTH, dtype=jnp.float32)))
    return View(
        scores=scores,
        active=active,
        history=jnp.zeros((N, ROUNDS)).at[:, 0].set(scores),
        depth=jnp.ones(N, jnp.int32),
        log_prob=-1.0 - number,
        lengths=jnp.full(N, 2, jnp.int32),
        round=jnp.zeros((), jnp.int32),
        entropy=1.0 + number if strategy.reads_entropy else None,
        hidden=hidden if strategy.reads_hidden else None,
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
