"""The bridge: between rounds the host has its say, for verifiers that XLA alone cannot ask.

One with another tokenizer is shown steps that the host retokenizes; one that reads texts
(`verifiers.texts`) is called on the host, and its scores are what the kernel finds.

The kernel returns when all rows of a question have paused. Their new steps are decoded, encoded in
the verifier's tokens and put into the state, for all rows of all such questions at once; in its
next call the kernel shows them to the verifier, whose caches have followed the parents, and goes
on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from ttc_jax.models.cache import KVCache
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.sampling.thinking import Phase
from ttc_jax.sampling.thoughts import Thought
from ttc_jax.search.layout import Layout
from ttc_jax.search.request import Request
from ttc_jax.search.state import SearchState, Status
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.steps import Marked, step_ends
from ttc_jax.verifiers.texts import TextAdapter

_log = logging.getLogger(__name__)


def retokenize(
    layout: Layout, adapter: PRMAdapter, delimiter: Delimiter, state: SearchState
) -> tuple[Marked, ...]:
    """Returns `SearchState.retokenized` for the questions whose selection step has come.

    Of an answer that takes more tokens of the verifier than there is room for, what does not fit is
    not read, and the steps that end there score 0.
    """
    plan = layout.plan
    retokenized = list(jax.tree.map(lambda x: np.zeros(x.shape, np.int32), state.retokenized))
    ahead, rows = state.decode, state.rows
    ready = jax.device_get(state.progress.status) == Status.SELECTING
    if not ready.any():
        return tuple(retokenized)
    reached, ended = jax.device_get((ahead.cache.length, ahead.ended))
    length = reached
    if plan.lookahead:
        length, ended = jax.device_get((state.saved["length"], state.saved["ended"]))
    tokens, given, shown, started, done, stored = jax.device_get(
        (
            ahead.tokens,
            rows.given,
            state.scores.shown,
            rows.started,
            rows.done,
            _stored(state.verifier),
        )
    )
    ends = step_ends(tokens, length, ended, delimiter)
    ends &= np.arange(plan.max_new_tokens) >= started[..., None]
    taken = delimiter.taken(tokens, length), delimiter.taken(tokens, reached)
    beyond = np.arange(plan.max_new_tokens) == reached[..., None] - 1  # where lookahead ends
    for row in zip(*np.nonzero(ready[:, None] & ~done), strict=True):
        text, room = tokens[row].tolist(), layout.most_shown + 1 - int(stored[row])
        first = max(int(shown[row]) - 1, 0)
        before = [int(given[row])] if shown[row] == 0 else []
        parts = [(before, first, int(length[row]), ends[row])]
        if plan.lookahead:
            parts.append(([], int(length[row]), int(reached[row]), beyond[row]))
        for chunk, (before, start, end, is_end), cut in zip(
            retokenized, parts, taken, strict=False
        ):
            found, read = adapter.show(
                text[start:end],
                is_end[start:end].tolist(),
                first=start == 0,
                taken=cut[row][start:end].tolist(),
            )
            _put(chunk, row, [*before, *found], [0] * len(before) + [len(before) + x for x in read])
            nowhere = chunk.tokens.shape[-1] - 1  # a place that holds no token, and so scores 0
            most = min(room, nowhere)
            if chunk.real[row] > most:
                _log.warning("an answer takes too many of the verifier's tokens: it reads no more")
                chunk.real[row] = most
                chunk.read[row][chunk.read[row] >= most] = nowhere
            room -= int(chunk.real[row])
    return tuple(retokenized)


def score_texts(
    adapter: TextAdapter,
    state: SearchState,
    asked: Sequence[Request | None],
    known: Bool[np.ndarray, " B"] | None = None,
) -> Float[np.ndarray, "B N"]:
    """Returns the scores of rows of questions whose selection step has come; else those before.

    Args:
      asked: the `Request` in each slot, [B], whose costs grow; None: there is none.
      known: slots whose scores are there already.
    """
    scores = np.array(jax.device_get(state.verifier))
    ready = jax.device_get(state.progress.status) == Status.SELECTING
    if known is not None:
        ready &= ~known
    if not ready.any():
        return scores
    decode = state.decode
    tokens, length, thought, done = jax.device_get(
        (decode.tokens, decode.cache.length, decode.thought, state.rows.done)
    )
    begun = np.zeros_like(length)
    if isinstance(thought, Thought):
        begun = np.where(thought.phase == Phase.INSIDE, length, thought.behind)
    for slot in np.flatnonzero(ready).tolist():
        request = asked[slot]
        assert request is not None
        rows = np.flatnonzero(~done[slot])
        answers = [tokens[slot, n, : length[slot, n]].tolist() for n in rows]
        thoughts = begun[slot, rows].tolist()
        scores[slot, rows], cost = adapter.score(request.shown, answers, thoughts)
        if request.costs is not None:
            request.costs.append(cost)
    return scores


def _put(chunk: Marked, row: tuple[int, ...], tokens: list[int], read: list[int]) -> None:
    width = chunk.tokens.shape[-1]
    chunk.tokens[row][: min(len(tokens), width)] = tokens[:width]
    chunk.real[row] = len(tokens)
    chunk.read[row][: len(read)] = read


def _stored(verifier: Any) -> Any:
    """Returns how many tokens the verifier's cache holds of each row's answer, [B, N]."""
    leaves = jax.tree.leaves(verifier, is_leaf=lambda x: isinstance(x, KVCache))
    caches = [leaf for leaf in leaves if isinstance(leaf, KVCache)]
    return caches[0].stored
