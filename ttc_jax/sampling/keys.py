"""Every random stream of the package: from one seed to a key for each purpose, none used twice.

A key is made by folding numbers into another key. Purposes that fold into the same key own ranges
of numbers which do not overlap:

    key             folded into   numbers                          draws
    --------------  ------------  -------------------------------  -------------------------------
    question        seed          its id                           nothing itself
    candidate       question      its index n < N                  nothing itself
    selection       question      2^32 - 1, and then the round     a strategy's random choices
    token           candidate     its position < T                 one uniform number
    copy            candidate     T + round                        nothing itself
    answer          candidate     T + R + answers before it        nothing itself
    rollout         candidate     T + length, and then its number  nothing itself
    training step   seed          the step                         dropout (`models.train_mode`)

T is the longest answer, and R the rounds of all answers of a search. A copy is a row that goes on
from another one, an answer a row's next one among revisions, a rollout a row that goes on from the
first tokens of an answer: each takes the candidate's place for the tokens that follow. Rollouts
have no rounds, so their ranges do not meet those of copies and answers.

On the host, NumPy's generators are seeded from configs: `training.rest_em` and `training.revision`
(what examples are taken, in which order), `policy.policy`, `policy.allocation`, `results.curves`,
`results.chains` and `results.credit` (bootstraps and orders of answers), `experiments.selector`
(the order in which a judge is shown answers). A judge's thoughts and texts are drawn by seed 0, and
by a hash of its prompt in place of a question's id.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

SELECTION = 2**32 - 1  # no candidate has this index

Seed = int | UInt[Array, ""] | UInt[Array, " B"]  # below 2^32; of all questions, or of each

_fold_pairs = jax.vmap(jax.vmap(jax.random.fold_in))  # [B, N] keys, [B, N] numbers
_fold_rows = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)))  # [B, N] keys, [B] numbers


def question_keys(seed: Seed, question_ids: UInt[Array, " B"]) -> jax.Array:
    """Returns a key for every question, [B], from which all of its draws come."""
    seeds = jnp.broadcast_to(jnp.asarray(seed, jnp.uint32), question_ids.shape)
    return jax.vmap(lambda s, i: jax.random.fold_in(jax.random.key(s), i))(seeds, question_ids)


def candidate_keys(seed: Seed, question_ids: UInt[Array, " B"], candidates: int) -> jax.Array:
    """Returns a key for every candidate, [B, N], from the seed, its question's id and its index."""
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    return fold(question_keys(seed, question_ids), jnp.arange(candidates))


def token_keys(candidates: jax.Array, position: Int[Array, "*B"]) -> jax.Array:
    """Returns the key that each row's token at `position` is drawn with."""
    flat = jax.vmap(jax.random.fold_in)(candidates.reshape(-1), position.reshape(-1))
    return flat.reshape(position.shape)


def uniforms(candidates: jax.Array, position: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """Returns one number in [0, 1) for each row's `position`, from its candidate's key.

    It depends on nothing but (seed, question, candidate, position): neither on what else is in the
    batch, nor on refill or resume.
    """
    keys = token_keys(candidates, position).reshape(-1)
    return jax.vmap(jax.random.uniform)(keys).reshape(position.shape)


def selection_keys(questions: jax.Array, round_: Int[Array, " B"]) -> jax.Array:
    """Returns a key for each question's selection in a round, [B], from the questions' keys."""
    fold = jax.random.fold_in
    return jax.vmap(lambda key, r: fold(fold(key, SELECTION), r))(questions, round_)


def copy_keys(candidates: jax.Array, longest: int, round_: Int[Array, " B"]) -> jax.Array:
    """Returns the keys of rows that become copies of others in a round, [B, N].

    Args:
      candidates: the rows' keys until then.
      longest: T.
    """
    return _fold_rows(candidates, longest + round_)


def answer_keys(
    candidates: jax.Array, longest: int, rounds: int, answer: Int[Array, " B"]
) -> jax.Array:
    """Returns the keys of rows that begin their next answer, [B, N].

    Args:
      candidates: the rows' keys until then.
      longest: T.
      rounds: R, of all answers.
      answer: how many answers are complete, at least 1.
    """
    return _fold_rows(candidates, longest + rounds + answer)


def rollout_keys(
    candidates: jax.Array, longest: int, lengths: Int[Array, "B W"], numbers: Int[Array, "B W"]
) -> jax.Array:
    """Returns the keys of rows that go on from the first tokens of candidates, [B, W].

    Args:
      candidates: the keys of those candidates, one for each row.
      longest: T.
      lengths: how many tokens a row goes on from.
      numbers: tell rows apart that go on from the same place.
    """
    return _fold_pairs(_fold_pairs(candidates, longest + lengths), numbers)


def training_key(seed: int, step: Int[Array, ""]) -> jax.Array:
    """Returns the key of a training step, from which its dropout is drawn."""
    return jax.random.fold_in(jax.random.key(seed), step)
