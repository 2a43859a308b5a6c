import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.errors import UserError
from ttc_jax.results.selection import (
    LOWEST_SCORE,
    RULES,
    answer_ids,
    answer_score,
    hierarchical,
)

candidates = st.lists(
    st.tuples(
        st.sampled_from([None, "7", "8", "9"]),
        st.sampled_from([LOWEST_SCORE, 0.0, 0.1, 0.2, 0.3, 1.0]),
    ),
    min_size=1,
    max_size=8,
)


def shares(rule, pairs):
    answers, scores = zip(*pairs, strict=True)
    return RULES[rule](answer_ids(answers), np.array(scores))


def answer_shares(rule, pairs):
    totals = {}
    for (answer, _), share in zip(pairs, shares(rule, pairs), strict=True):
        if share:
            totals[answer] = totals.get(answer, 0) + share
    return totals


@pytest.mark.parametrize(("how", "expected"), [("last", 0.5), ("min", 0.25), ("product", 0.125)])
def test_answer_score(how, expected):
    assert answer_score([1.0, 0.25, 0.5], how) == expected
    assert answer_score([0.5], how) == 0.5


@pytest.mark.parametrize("how", ["last", "min", "product"])
def test_no_step_is_below_every_score(how):
    assert answer_score([], how) == LOWEST_SCORE < -1e300


def test_unknown_aggregation_names_the_choices():
    with pytest.raises(UserError, match="'mean' is unknown; choose last, min, product"):
        answer_score([0.5], "mean")


def test_answer_ids():
    assert answer_ids(["4", None, "", "4"]).tolist() == [0, -1, 1, 0]


def test_the_three_rules_can_disagree():
    pairs = [("7", 0.9), ("8", 0.4), ("8", 0.4), ("8", 0.0), ("9", 0.8), ("9", 0.7)]
    assert answer_shares("majority", pairs) == {"8": pytest.approx(1)}
    assert answer_shares("best_of_n", pairs) == {"7": 1}
    assert answer_shares("best_of_n_weighted", pairs) == {"9": 1}


def test_ties_share_the_choice():
    pairs = [("7", 0.3), ("8", 0.1), ("8", 0.2), ("9", 0.1)]
    assert answer_shares("majority", [*pairs, ("7", 0.0)]) == {"7": 0.5, "8": 0.5}
    # 0.1 + 0.2 is not 0.3 in floating point, yet these two answers tie.
    assert answer_shares("best_of_n_weighted", pairs) == {"7": 0.5, "8": 0.5}
    assert shares("best_of_n", [*pairs, ("9", 0.3)]).tolist() == [0.5, 0, 0, 0, 0.5]


@pytest.mark.parametrize("rule", RULES)
def test_without_an_answer_no_vote(rule):
    assert answer_shares(rule, [(None, 1.0), (None, 1.0), ("7", 0.0)]) == {"7": 1}
    assert shares(rule, [(None, 1.0), (None, 0.5)]).tolist() == [0, 0]


def test_answers_without_steps_lose_but_still_answer():
    unscored = ("7", LOWEST_SCORE)
    assert answer_shares("best_of_n", [unscored, unscored, ("8", 0.0)]) == {"8": 1}
    assert answer_shares("best_of_n_weighted", [unscored, unscored, ("8", 0.1)]) == {"8": 1}
    for rule in RULES:
        assert answer_shares(rule, [unscored, unscored]) == {"7": 1}


def test_negative_scores_cannot_be_summed():
    assert answer_shares("best_of_n", [("7", -2.0), ("8", -1.0)]) == {"8": 1}
    for score in (-1.0, np.nan):
        with pytest.raises(UserError, match="none may be negative"):
            shares("best_of_n_weighted", [("7", score)])


@pytest.mark.parametrize("rule", RULES)
@given(pairs=candidates, data=st.data())
def test_order_does_not_matter(rule, pairs, data):
    order = data.draw(st.permutations(range(len(pairs))))
    permuted = shares(rule, [pairs[index] for index in order])
    np.testing.assert_allclose(permuted, shares(rule, pairs)[order])


@pytest.mark.parametrize("rule", RULES)
@given(pairs=candidates)
def test_shares_are_one_whole_choice_among_answers(rule, pairs):
    result = shares(rule, pairs)
    has_answer = np.array([answer is not None for answer, _ in pairs])
    assert (result >= 0).all()
    assert not result[~has_answer].any()
    np.testing.assert_allclose(result.sum(), float(has_answer.any()))


@pytest.mark.parametrize("rule", RULES)
@given(pairs=candidates)
def test_equal_scores_make_weighted_a_majority_and_rows_are_independent(rule, pairs):
    flat = [(answer, 0.5) for answer, _ in pairs]
    np.testing.assert_allclose(shares("majority", flat), shares("best_of_n_weighted", flat))
    ids = answer_ids([answer for answer, _ in pairs])
    scores = np.array([score for _, score in pairs])
    rows = RULES[rule](np.stack([ids, ids[::-1]])[None], np.stack([scores, scores[::-1]])[None])
    np.testing.assert_allclose(rows[0], [shares(rule, pairs), shares(rule, pairs)[::-1]])


def chain_shares(pairs, sequential):
    answers, scores = zip(*pairs, strict=True)
    return hierarchical(answer_ids(answers), np.array(scores), sequential).tolist()


def test_each_chain_sends_the_best_of_its_winning_answer():
    # The first chain agrees on 7, though 8 has its best single score; the second sends its 8.
    pairs = [("7", 0.4), ("8", 0.6), ("7", 0.3), ("8", 0.5), (None, 0.9), ("9", 0.1)]
    assert chain_shares(pairs, 3) == [0, 0, 0, 1, 0, 0]
    assert chain_shares(pairs[:3], 3) == [1, 0, 0]


def test_winners_of_chains_vote_again():
    pairs = [("7", 0.6), ("9", 0.1), ("8", 0.4), ("9", 0.1), ("8", 0.3), ("9", 0.2)]
    assert chain_shares(pairs, 2) == [0, 0, 0.5, 0, 0.5, 0]


def test_a_chain_without_an_answer_sends_none():
    assert chain_shares([(None, 0.9), (None, 0.8), ("7", LOWEST_SCORE), (None, 0.1)], 2) == [
        0,
        0,
        1,
        0,
    ]
    assert chain_shares([(None, 0.9), (None, 0.8)], 2) == [0, 0]


@given(candidates)
def test_chains_of_one_are_the_flat_vote(pairs):
    assert chain_shares(pairs, 1) == shares("best_of_n_weighted", pairs).tolist()


@given(candidates)
def test_one_chain_chooses_the_answer_of_the_flat_vote(pairs):
    chosen = {pairs[n][0] for n, share in enumerate(chain_shares(pairs, len(pairs))) if share}
    assert chosen <= answer_shares("best_of_n_weighted", pairs).keys()
    assert len(chosen) <= 1
