"""Flipped scores: so many, of a candidate's step always the same, however it is read."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.oracle import TINY
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.flipped import Flipped

B, N, T = 3, 4, 12
RNG = np.random.default_rng(0)
PROMPTS = jnp.asarray(RNG.integers(1, TINY.vocab_size, (B, 6)))
LENGTHS = jnp.asarray([6, 4, 5])
TOKENS = jnp.asarray(RNG.integers(1, TINY.vocab_size, (B, N, T)))
ALL = jnp.full((B, N), T)


DECODED: Any = None  # what a PRM does not look at


def read(verifier, *pieces: int) -> np.ndarray:
    """Scores of `TOKENS`, read in pieces of these sizes, in rows that are padded with rubbish."""
    state, scores, first = verifier.init(PROMPTS, LENGTHS, N, T + 1), [], 0
    for size in pieces or (T,):
        piece = jnp.pad(TOKENS[..., first : first + size], ((0, 0), (0, 0), (0, 2)), mode="edge")
        found, state = verifier.score_steps(piece, jnp.full((B, N), size), state, DECODED)
        scores.append(np.asarray(found)[..., :size])
        first += size
    return np.concatenate(scores, -1)


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return read(tiny_prm())


def test_none_and_all_flipped(plain):
    np.testing.assert_array_equal(read(Flipped(tiny_prm(), 0.0)), plain)
    np.testing.assert_array_equal(read(Flipped(tiny_prm(), 1.0)), 1 - plain)


def test_text_and_candidate_decide_which_however_it_is_read(plain):
    verifier = Flipped(tiny_prm(), 0.5)
    whole, parts = read(verifier), read(verifier, 5, 1, 6)
    flips = np.abs(whole - plain) > 1e-6
    assert 0.3 < flips.mean() < 0.7
    np.testing.assert_array_equal(np.where(flips, 1 - plain, plain), whole)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_candidates_of_one_text_err_apart():
    """Else all that wrote the only right answer to a question would err together."""
    verifier = Flipped(tiny_prm(layered=False), 0.2)
    one = jnp.broadcast_to(TOKENS[:1, :1], (1, 500, T))
    state = verifier.init(PROMPTS[:1], LENGTHS[:1], 500, T + 1)
    scores, _ = verifier.score_steps(one, jnp.full((1, 500), T), state, DECODED)
    honest, _ = verifier.verifier.score_steps(one, jnp.full((1, 500), T), state.inner, DECODED)
    share = (np.abs(np.asarray(scores) - np.asarray(honest)) > 1e-6).mean(1)
    assert (np.abs(share - 0.2) < 0.08).all()  # of each of the T steps


def test_an_answer_behind_others_begins_anew(plain):
    del plain
    verifier = Flipped(tiny_prm(), 0.5)
    state = verifier.init(PROMPTS, LENGTHS, N, 2 * T)
    _, read_on = verifier.score_steps(TOKENS, ALL, state, DECODED)
    first = verifier.reset(TOKENS[..., :3], jnp.full((B, N), 3), state)
    again = verifier.reset(TOKENS[..., :3], jnp.full((B, N), 3), read_on)
    np.testing.assert_array_equal(first.text, again.text)
    assert (np.asarray(first.text) != np.asarray(state.text)).all()


def test_the_share_is_as_asked_for():
    verifier = Flipped(tiny_prm(layered=False), 0.2)
    many = jnp.asarray(RNG.integers(1, TINY.vocab_size, (4, 500, 3)))
    state = verifier.init(PROMPTS[:1].repeat(4, 0), LENGTHS[:1].repeat(4), 500, 4)
    real = jnp.full((4, 500), 3)
    scores, _ = jax.jit(verifier.score_steps)(many, real, state, DECODED)
    honest, _ = jax.jit(verifier.verifier.score_steps)(many, real, state.inner, DECODED)
    flipped = np.abs(np.asarray(scores) - np.asarray(honest)) > 1e-6
    assert abs(flipped.mean() - 0.2) < 0.03


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"share of flipped scores is 1\.5, not 0 to 1"):
        Flipped(tiny_prm(), 1.5)
    with pytest.raises(UserError, match="only scores of a PRM or an ORM"):
        Flipped(Confidence(), 0.2)
