"""The kernel against the plain Python search: every token, parent, score and cost is the same."""

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.sampling.oracle import TINY, tiny_generator
from tests.search.oracle import Forward, Found, SearchOracle, UnclearError
from tests.search.toy import (
    BROKEN,
    ENDS,
    LINES,
    SHALLOW,
    Grader,
    delimiter,
    make_plan,
    make_search,
    marked_prm,
    random_probe,
    run,
)
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.search.search import SearchResult
from ttc_jax.verifiers.confidence import Confidence
from ttc_jax.verifiers.steps import StepFormat
from ttc_jax.verifiers.verifier import Verifier

EXAMPLES = 11  # of each case, of two or three questions: more than 200 searches in all
Case = tuple[Callable[[], Verifier], dict[str, Any]]
CASES: dict[str, Case] = {
    "best_of_n, PRM read before its marker": (
        lambda: marked_prm(SHALLOW, (35, 36), -1),
        {"strategy": "best_of_n"},
    ),
    "best_of_n, self-certainty": (
        lambda: Confidence("self_certainty"),
        {"strategy": "best_of_n", "candidates": 3, "sampling": SamplingParams(temperature=0.8)},
    ),
    "beam M=1, ties": (Grader, {"options": {"width": 1}, "sampling": SamplingParams(top_k=30)}),
    "beam M=2 of 8, lookahead, ties, markers, lanes": (
        lambda: Grader(step_format=StepFormat((9, 6), -1)),
        {"options": {"width": 2}, "candidates": 8, "lookahead": 1, "lanes": 5},
    ),
    "beam M=N, lookahead 2, entropy": (
        lambda: Confidence("entropy"),
        {"options": {"width": 4}, "lookahead": 2},
    ),
    "beam √N, lookahead 2, marked PRM, shared": (
        lambda: marked_prm(SHALLOW, (36,)),
        {"options": {"width": 0}, "lookahead": 2, "max_step_tokens": 3, "cache": "shared"},
    ),
    "dvts, lookahead, probe": (
        random_probe,
        {"strategy": "dvts", "options": {"width": 2}, "lookahead": 1},
    ),
    "beam, lookahead, lanes, steps that end at blank lines": (
        lambda: marked_prm(SHALLOW, (36,)),
        {"options": {"width": 2}, "lookahead": 1, "lanes": 5, "blank_lines": True},
    ),
    "best_of_n, steps that end at blank lines": (
        lambda: marked_prm(SHALLOW),
        {"strategy": "best_of_n", "blank_lines": True},
    ),
    "beam search in each of two answers, steps that end at blank lines": (
        lambda: marked_prm(SHALLOW, (35, 36), -1),
        {
            "options": {"width": 1},
            "max_new_tokens": 7,
            "max_step_tokens": 3,
            "revisions": 2,
            "between": (7,),
            "blank_lines": True,
        },
    ),
    "dvts, ties, shared": (
        Grader,
        {
            "strategy": "dvts",
            "options": {"width": 3},
            "candidates": 6,
            "max_step_tokens": 20,
            "cache": "shared",
        },
    ),
    "rebase, PRM, lanes": (
        lambda: marked_prm(SHALLOW),
        {"strategy": "rebase", "options": {"temperature": 0.02}, "candidates": 5, "lanes": 3},
    ),
    "particles, log-probability": (
        Confidence,
        {"strategy": "particles", "options": {"temperature": 0.1}},
    ),
    "smc, PRM": (
        lambda: marked_prm(SHALLOW),
        {
            "strategy": "smc",
            "options": {"temperature": 0.1, "threshold": 0.8},
            "candidates": 5,
        },
    ),
    "diverse beam, lookahead, shared": (
        lambda: marked_prm(SHALLOW, (36,)),
        {
            "strategy": "diverse_beam",
            "options": {"width": 2},
            "candidates": 6,
            "lookahead": 1,
            "cache": "shared",
        },
    ),
    "deepconf, lanes": (
        Confidence,
        {
            "strategy": "deepconf",
            "options": {"window": 1, "warmup": 1, "keep": 0.5},
            "candidates": 6,
            "lanes": 4,
        },
    ),
    "a strategy of one's own with a state of rows, in each of two answers": (
        lambda: marked_prm(SHALLOW),
        {
            "strategy": "tests.search.own_strategy:Patient",
            "options": {"patience": 0},
            "max_new_tokens": 8,
            "max_step_tokens": 2,
            "revisions": 2,
            "between": (7,),
        },
    ),
    "chains of seven answers, PRM": (
        lambda: marked_prm(SHALLOW),
        {
            "strategy": "best_of_n",
            "candidates": 3,
            "max_new_tokens": 3,
            "revisions": 7,
            "between": (7,),
        },
    ),
    "beam search in each of three answers, marked PRM, lookahead": (
        lambda: marked_prm(SHALLOW, (36,)),
        {
            "options": {"width": 2},
            "max_new_tokens": 6,
            "max_step_tokens": 2,
            "lookahead": 1,
            "revisions": 3,
            "between": (7, 8),
        },
    ),
}
QUESTIONS = st.lists(
    st.tuples(
        st.lists(st.integers(0, TINY.vocab_size - 1), min_size=1, max_size=20),
        st.integers(0, 2**32 - 1),
    ),
    min_size=2,
    max_size=3,
)


def assert_as_oracle(outcome: SearchResult, found: Found) -> None:
    rows = found.rows
    assert len(outcome.tokens) == len(rows)
    for n, row in enumerate(rows):
        length = outcome.lengths[n]
        assert outcome.tokens[n, :length].tolist() == row.text
        assert not outcome.tokens[n, length:].any()
        assert np.flatnonzero(outcome.scored[n]).tolist() == sorted(row.steps)
        scores = [row.steps[i] for i in sorted(row.steps)]
        np.testing.assert_allclose(outcome.scores_of(n), scores, atol=1e-4)
    assert outcome.finished.tolist() == [row.ended for row in rows]
    np.testing.assert_allclose(outcome.log_prob, [row.log_prob for row in rows], rtol=1e-4)
    names = (
        "tokens",
        "parents",
        "starts",
        "ends",
        "lookahead_ends",
        "verifier_tokens",
        "lookahead_verifier_tokens",
        "answers",
        "contexts",
    )
    for name in names:
        expected = [entry[name] for entry in found.rounds]
        np.testing.assert_array_equal(getattr(outcome.trace, name), expected, name)
    scores = [entry["scores"] for entry in found.rounds]
    np.testing.assert_allclose(outcome.trace.scores, scores, atol=1e-4)
    assert outcome.ledger == found.ledger


@pytest.fixture(scope="module")
def generator() -> Transformer:
    return tiny_generator(SHALLOW)


@pytest.fixture(scope="module")
def forward(generator) -> Forward:
    return Forward(generator)


@pytest.mark.parametrize("case", CASES)
def test_the_search_is_the_oracles(generator, forward, case: str):
    make_verifier, changes = CASES[case]
    changes = dict(changes)
    steps = (BROKEN, "\n\n") if changes.pop("blank_lines", False) else (LINES, "\n")
    execution = {name: changes.pop(name) for name in ("lanes", "cache") if name in changes}
    verifier, plan, seed = make_verifier(), make_plan(**changes), len(case)
    others = {"seed": seed, "delimiter": delimiter(*steps), **execution}
    search = make_search(generator, verifier, plan, **others)
    oracle = SearchOracle(forward, verifier, plan, ENDS, *steps, seed=seed)
    clear: list[bool] = []
    examples = EXAMPLES if plan.revisions == 1 else EXAMPLES // 2  # they are long

    @hypothesis.settings(max_examples=examples)
    @hypothesis.given(QUESTIONS)
    def check(questions: list[tuple[list[int], int]]) -> None:
        outcomes = run(search, questions)
        for outcome, question in zip(outcomes, questions, strict=True):
            try:
                found = oracle.search(*question)
            except UnclearError:
                clear.append(False)
            else:
                clear.append(True)
                assert_as_oracle(outcome, found)

    check()
    assert len(clear) >= 2 * examples
    assert np.mean(clear) > 0.9
    assert search.compilations == 1
