"""Step scores of finished samples."""

import jax
import numpy as np
import pytest

from tests.sampling.oracle import TINY
from tests.verifiers.toy import tiny_prm
from ttc_jax.errors import UserError
from ttc_jax.sampling.sampler import Samples
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.scoring import StepScorer
from ttc_jax.verifiers.steps import step_ends

N, LONGEST = 2, 70  # more than a block of the cache
DELIMITERS = np.zeros(TINY.vocab_size, bool)
DELIMITERS[[4, 6]] = True
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, TINY.vocab_size, length).tolist() for length in (1, 7, 33)]


def make_samples() -> Samples:
    lengths = np.array([[LONGEST, 1], [30, 12], [5, 44]])
    tokens = RNG.integers(0, TINY.vocab_size, (3, N, LONGEST), dtype=np.int32)
    tokens[np.arange(LONGEST) >= lengths[..., None]] = 0
    return Samples(tokens, lengths, np.zeros((3, N)), np.ones((3, N), bool))


SAMPLES = make_samples()


@pytest.fixture(scope="module")
def prm() -> ProcessRewardModel:
    return tiny_prm()


@pytest.fixture(scope="module")
def scorer(prm) -> StepScorer:
    return StepScorer(
        prm, delimiters=DELIMITERS, candidates=N, max_new_tokens=LONGEST, batch=len(PROMPTS)
    )


def test_scores_are_those_of_one_pass_at_step_ends(prm, scorer):
    with jax.transfer_guard("disallow"):
        scores = scorer.score(PROMPTS, SAMPLES)
    ends = step_ends(SAMPLES.tokens, SAMPLES.lengths, SAMPLES.finished, DELIMITERS)
    tokens = np.zeros((3 * N, 33 + LONGEST), np.int32)
    for row, (i, n) in enumerate(np.ndindex(3, N)):
        sequence = [*PROMPTS[i], *SAMPLES.tokens[i, n]]
        tokens[row, : len(sequence)] = sequence
    prompts = np.repeat([len(prompt) for prompt in PROMPTS], N).astype(np.int32)
    logits = np.asarray(jax.jit(lambda *x: prm(*x))(tokens, prompts), np.float64)
    for row, (i, n) in enumerate(np.ndindex(3, N)):
        at = np.flatnonzero(ends[i, n]) + len(PROMPTS[i])
        expected = 1 / (1 + np.exp(-logits[row, at]))
        assert len(scores[i][n]) == len(at) > 0
        np.testing.assert_allclose(scores[i][n], expected, atol=1e-5)


@pytest.mark.parametrize("rows", [[2], [1, 0]], ids=str)
def test_scores_do_not_depend_on_the_batch(scorer, rows):
    every = scorer.score(PROMPTS, SAMPLES)
    part = Samples(*(array[rows] for array in SAMPLES))
    some = scorer.score([PROMPTS[i] for i in rows], part)
    for found, row in zip(some, rows, strict=True):
        for mine, theirs in zip(found, every[row], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_a_verifier_of_another_vocabulary_is_refused(prm):
    with pytest.raises(UserError, match="37 tokens, the generator's 38"):
        StepScorer(prm, delimiters=np.zeros(38, bool), candidates=1, max_new_tokens=8)


def test_what_does_not_fit_its_context_is_refused(scorer):
    longest = [1] * (TINY.context - LONGEST)
    one = Samples(*(array[:1] for array in SAMPLES))
    with pytest.raises(UserError, match="187 tokens and sampling.max_new_tokens=70 do not fit"):
        scorer.score([[*longest, 1]], one)
