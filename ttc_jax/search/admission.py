"""A question at the beginning of its search: its prompts are read, its rows may go on."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, UInt

from ttc_jax.models.cache import PromptCache
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.keys import candidate_keys, question_keys
from ttc_jax.sampling.sampler import start, wake
from ttc_jax.search import lookahead
from ttc_jax.search.layout import Layout
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import (
    Answers,
    Earlier,
    Progress,
    Question,
    Rows,
    Scores,
    SearchState,
    SearchTrace,
)
from ttc_jax.verifiers.steps import Marked
from ttc_jax.verifiers.verifier import CONTEXT_PIECE, Verifier


def admit(
    layout: Layout,
    generator: Transformer,
    verifier: Verifier | None,
    prompts: tuple[Int[Array, "1 P"], Int[Array, "1 Q"]],
    lengths: Int[Array, "1 2"],
    numbers: UInt[Array, " 1"],
    seed: int,
    front: PromptCache | None = None,
) -> SearchState:
    """The state of one question at its beginning: its prompts are read, its rows may go on.

    Args:
      prompts: the generator's, and the verifier's.
      front: what the generator has read before its own.
    """
    plan, (asked, judged) = layout.plan, prompts
    N, T = plan.candidates, plan.max_new_tokens
    keys = candidate_keys(seed, numbers, N)
    decode = start(generator, asked, lengths[:, 0], keys, T, context=_room(plan), front=front)
    given = jnp.broadcast_to(take_along(judged, lengths[:, 1:] - 1, 1), (1, N))
    shown: Any = ()
    if verifier is not None:
        capacity = _room(plan) + layout.most_shown + 1
        shown = verifier.init(judged, lengths[:, 1], N, capacity)
    rows = Rows.start(given, plan.step)
    decode = wake(decode, jnp.ones((1, N), bool), rows.limit)
    return SearchState(
        decode=decode,
        verifier=shown,
        question=Question(
            keys=question_keys(seed, numbers),
            last=decode.pending[:, 0],
            score=jnp.zeros((1,), jnp.float32),
        ),
        progress=Progress.start(),
        rows=rows,
        scores=Scores.start(decode.tokens),
        saved=lookahead.saved(plan, decode),
        told=_nothing_told(layout),
        trace=SearchTrace.start(plan),
        answers=Answers.start(plan),
        earlier=Earlier(
            jnp.zeros((1, N, plan.earlier, T), jnp.int32),
            jnp.zeros((1, N, plan.earlier), jnp.int32),
        ),
    )


def _nothing_told(layout: Layout) -> tuple[Marked, ...]:
    """Where the host puts what it tells of a question over a bridge."""
    if not layout.bridged:
        return ()
    plan = layout.plan
    rows = (1, plan.candidates)
    lengths = (plan.step + 1, *([plan.lookahead * plan.step] if plan.lookahead else []))
    found = []
    for tokens in lengths:
        # A step may grow more than an answer does; and the last place is never taken.
        width = layout.step_format.longest(2 * layout.growth * tokens, layout.steps_a_round) + 1
        shapes = ((*rows, width), rows, (*rows, tokens))
        found.append(Marked(*(jnp.zeros(shape, jnp.int32) for shape in shapes)))
    return tuple(found)


def _room(plan: Plan) -> int:
    """Slots that a row's context takes; its last piece may hang over."""
    return plan.context + CONTEXT_PIECE if plan.context else 0
