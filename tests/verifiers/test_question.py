"""Questions scored without answers, against the scores that searches report."""

from typing import Any

import jax.numpy as jnp
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search import toy
from ttc_jax.errors import UserError
from ttc_jax.verifiers import question
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.flipped import Flipped
from ttc_jax.verifiers.question import question_scores

PROMPTS = [[5], [5, 9, 2, 21, 7], [1, 2, 3], list(range(1, 31)) * 3]  # of two buckets


@pytest.fixture(scope="module")
def prm():
    return toy.marked_prm(toy.SHALLOW)


def test_a_search_reports_the_same_score(prm):
    search = toy.make_search(
        tiny_generator(toy.SHALLOW), prm, toy.make_plan("best_of_n", candidates=2)
    )
    outcomes = toy.run(search, [(prompt, 0) for prompt in PROMPTS[:3]])
    found = question_scores(prm, PROMPTS[:3])
    assert found == pytest.approx([x.question_score for x in outcomes], abs=1e-6)
    assert len(set(found)) == 3


def test_a_score_depends_on_nothing_else_and_compiles_once_a_bucket(prm):
    together = question_scores(prm, PROMPTS)
    scores: Any = question._scores
    compiled = scores._cache_size()
    assert [question_scores(prm, [prompt])[0] for prompt in PROMPTS] == together
    assert question_scores(prm, PROMPTS[::-1]) == together[::-1]
    assert scores._cache_size() == compiled
    assert question_scores(prm, PROMPTS, batch=2) == pytest.approx(together, abs=1e-6)
    assert question_scores(prm, []) == []


def test_flipped_scores_are_flipped(prm):
    flipped = question_scores(Flipped(prm, 1.0), PROMPTS[:1])
    assert flipped == pytest.approx([1 - x for x in question_scores(prm, PROMPTS[:1])])


def test_what_cannot_be_scored(prm):
    with pytest.raises(UserError, match="only a PRM or an ORM can score a question"):
        question_scores(Confidence(), PROMPTS)
    with pytest.raises(UserError, match="prompt 0: 0 tokens do not fit"):
        question_scores(prm, [[]])
    with pytest.raises(UserError, match="prompt 1: 9999 tokens do not fit"):
        question_scores(prm, [[1], [1] * 9999])
    broken = toy.marked_prm(toy.SHALLOW)
    broken.score[...] = jnp.full_like(broken.score[...], jnp.nan)
    with pytest.raises(UserError, match="prompt 0: its score is NaN"):
        question_scores(broken, PROMPTS[:1])
