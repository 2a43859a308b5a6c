"""Admission: reads the prompts of a question, and builds the state at the start of its search."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, UInt

from ttc_jax.models.cache import PromptCache
from ttc_jax.models.indexing import take_along
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling import thoughts
from ttc_jax.sampling.decode import resume, start
from ttc_jax.sampling.keys import candidate_keys, question_keys
from ttc_jax.search import lookahead
from ttc_jax.search.histories import shared
from ttc_jax.search.layout import Layout
from ttc_jax.search.parents import begin_strategy
from ttc_jax.search.plan import Plan
from ttc_jax.search.state import (
    Answers,
    Earlier,
    OwnLimits,
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
    streams: UInt[Array, "1 2"],
    budgets: Int[Array, "1 3"] | tuple[()] = (),
    own: OwnLimits | tuple[()] = (),
    *,
    prefix: PromptCache | None = None,
) -> SearchState:
    """Returns the state of one question whose prompts have been read, with all rows active.

    Args:
      prompts: the generator's, and the verifier's.
      streams: the seed and the question's id, which its draws are keyed by.
      budgets: `Thinking.given` of it, where the model thinks.
      own: its own limits, where the plan leaves them to it.
      prefix: the shared prefix that the generator's prompt stands behind.
    """
    plan, (asked, judged) = layout.plan, prompts
    N, T = plan.candidates, plan.max_new_tokens
    seeds, question_ids = streams[:, 0], streams[:, 1]
    keys = candidate_keys(seeds, question_ids, N)
    thought = thoughts.begin(plan.thinking, None if isinstance(budgets, tuple) else budgets, N)
    decode = start(generator, asked, lengths[:, 0], keys, T, _room(plan), prefix, thought)
    decode = shared(decode, layout.histories, (1 + plan.lookahead) * plan.step)
    given = jnp.broadcast_to(take_along(judged, lengths[:, 1:] - 1, 1), (1, N))
    verifier_state: Any = ()
    if verifier is not None:
        capacity = _room(plan) + layout.most_shown + 1
        verifier_state = verifier.init(judged, lengths[:, 1], N, capacity)
        verifier_state = shared(verifier_state, layout.histories, sum(layout.chunks), capacity)
    question = Question(
        keys=question_keys(seeds, question_ids),
        last=decode.pending[:, 0],
        score=jnp.zeros((1,), jnp.float32),
        own=own,
    )
    rows = Rows.start(given, question.first_step(plan))
    decode = resume(decode, jnp.ones((1, N), bool), rows.limit)
    return SearchState(
        decode=decode,
        verifier=verifier_state,
        strategy=begin_strategy(plan, 1),
        question=question,
        progress=Progress.start(),
        rows=rows,
        scores=Scores.start(decode.tokens),
        saved=lookahead.saved(plan, decode),
        retokenized=_nothing_retokenized(layout),
        trace=SearchTrace.start(plan),
        answers=Answers.start(plan),
        earlier=Earlier(
            jnp.zeros((1, N, plan.earlier, T), jnp.int32),
            jnp.zeros((1, N, plan.earlier), jnp.int32),
        ),
    )


def _nothing_retokenized(layout: Layout) -> tuple[Marked, ...]:
    """Returns room for what the host retokenizes of a question over a bridge."""
    if not layout.retokenizes:
        return ()
    plan = layout.plan
    rows = (1, plan.candidates)
    lengths = (plan.step + 1, plan.lookahead * plan.step)
    chunks = []
    for tokens, width in zip(lengths, layout.chunks, strict=False):
        shapes = ((*rows, width), rows, (*rows, tokens))
        chunks.append(Marked(*(jnp.zeros(shape, jnp.int32) for shape in shapes)))
    return tuple(chunks)


def _room(plan: Plan) -> int:
    """Returns the cache slots that a row's context takes; its last piece may hang over."""
    return plan.context + CONTEXT_PIECE if plan.context else 0
