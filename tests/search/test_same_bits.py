"""The rows of one compiled search round alike, whoever else is there and wherever they are.

Between them the two cases have few rows and many, float32 and bfloat16, lanes and all rows, steps
and whole answers. The verifier reads in float32, which hides no difference.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.search.toy import SHALLOW, make_plan, make_search, marked_prm, run
from ttc_jax.models.cache import BLOCK
from ttc_jax.models.transformer import Transformer
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.verifier import Verifier

RNG = np.random.default_rng(8)
QUESTIONS = [(RNG.integers(0, 37, n).tolist(), n) for n in (1, 30, 8, 21, 3, 13, 40, 5)]
CASES: dict[str, tuple[str, Callable[[], Verifier], Plan, Execution]] = {
    "64 rows, bfloat16, lanes": (
        "bfloat16",
        lambda: marked_prm(SHALLOW, (36,), -1, layered=False),
        make_plan("beam"),
        Execution(batch=16, lanes=24),
    ),
    # Answers of more than a block of the cache, so that short ones are read beside longer ones.
    "256 rows, float32": (
        "float32",
        lambda: Confidence("entropy"),
        make_plan("best_of_n", candidates=32, max_new_tokens=BLOCK + 2),
        Execution(batch=8),
    ),
}


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def search(request) -> Search:
    dtype, verifier, plan, execution = request.param
    build = nnx.jit(lambda: Transformer(SHALLOW, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype)))
    return make_search(build(), verifier(), plan, end_tokens=(3,), **vars(execution))


@pytest.fixture(scope="module")
def expected(search: Search) -> list[SearchResult]:
    return run(search, QUESTIONS)


@pytest.mark.parametrize("left", [1, 2, 7])
def test_the_questions_that_are_left_get_the_same_bits(search, expected, left: int):
    for one, other in zip(run(search, QUESTIONS[-left:]), expected[-left:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("refill", [True, False], ids=["refill", "together"])
def test_neither_place_nor_company_changes_a_bit(search, expected, refill: bool, monkeypatch):
    monkeypatch.setattr(search, "refill", refill)
    company = [(prompt[::-1], 1000 + number) for prompt, number in QUESTIONS]
    mixed = [pair for both in zip(company, QUESTIONS[::-1], strict=True) for pair in both]
    for one, other in zip(run(search, mixed)[1::2], expected[::-1], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_outcomes_are_worth_comparing(search, expected):
    lengths = np.concatenate([outcome.lengths for outcome in expected])
    assert lengths.min() < lengths.max()
    assert lengths.max() > BLOCK or search.plan.max_new_tokens < BLOCK
    assert len(set(np.concatenate([x.step_scores[x.scored] for x in expected]).tolist())) > 8
    assert search.compilations == 1
