"""Verifiers of texts, thresholds and deadlines: the same bits in any company, honest ledgers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search.test_bridge import TEXTS, TOKENIZER
from tests.search.toy import SHALLOW, make_plan, make_search
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.search import deadline
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.strategies import make_strategy
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.texts import TextAdapter, TextFunction

PLAN = make_plan("beam", {"width": 2}, rounds=4)


def reward(question: str, solutions: Sequence[str]) -> list[float]:
    """A score that any change of either text changes."""
    return [(sum(map(ord, question + x)) * 31 + len(x)) % 97 / 96 for x in solutions]


def search_of(function=reward, plan=PLAN, **changes) -> Search:
    verifier = TextFunction(function)
    options = {"end_tokens": TOKENIZER.eos_ids, "delimiter": Delimiter.of(TOKENIZER, "\n")}
    options |= {"adapter": TextAdapter(verifier, TOKENIZER), "batch": 3}
    return make_search(tiny_generator(SHALLOW), verifier, plan, **options | changes)


def results(search: Search, order: Sequence[int] = range(6), **options) -> dict[int, SearchResult]:
    assert search.adapter is not None
    texts = [TEXTS[i] for i in order]
    prompts = [TOKENIZER.encode(text) for text in texts]
    shown = [search.adapter.prompt(text) for text in texts]
    found = dict(search.run(prompts, list(order), shown, **options))
    return {order[i]: result for i, result in found.items()}


def assert_same(found: SearchResult, expected: SearchResult) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def search() -> Search:
    return search_of()


@pytest.fixture(scope="module")
def whole(search) -> dict[int, SearchResult]:
    return results(search)


@pytest.mark.parametrize("devices", [1, 2])
def test_scores_are_those_of_the_texts(whole, devices):
    ends = 0
    if devices > 1:
        mesh = make_mesh(devices, 1, jax.devices()[:devices])
        plan = make_plan("best_of_n")
        whole = results(search_of(plan=plan, mesh=mesh, batch=devices))
    for i, found in whole.items():
        for n, length in enumerate(found.lengths.tolist()):
            text = TOKENIZER.decode(found.tokens[n, :length].tolist())
            if scores := found.scores_of(n):
                assert scores[-1] == np.float32(reward(TEXTS[i], [text])[0])
                ends += 1
        assert found.ledger.verifier_tokens == 0
    assert ends > 12
    parents = {x for found in whole.values() for x in found.trace.parents.ravel().tolist()}
    assert len(parents) > 2


@pytest.mark.parametrize("refill", [True, False])
def test_company_changes_no_bit(search, whole, refill, monkeypatch):
    monkeypatch.setattr(search, "execution", dataclasses.replace(search.execution, refill=refill))
    with jax.transfer_guard("disallow"):
        for i, found in results(search, [5, 1, 4]).items():
            assert_same(found, whole[i])


def test_a_threshold_ends_a_question_and_no_other(whole):
    plan = dataclasses.replace(PLAN, score_threshold=0.6)
    search = search_of(plan=plan)
    found, free, ended = results(search), whole, 0
    for i, one in found.items():
        rounds = len(one.trace.scores)
        hits = [
            r
            for r, n in np.ndindex(free[i].trace.scores.shape)
            if free[i].trace.scores[r, n] >= 0.6 and one.finished[n] and r == rounds - 1
        ]
        if rounds < len(free[i].trace.scores):  # then it ended early, by such a score
            assert hits
            assert (one.step_scores[one.finished & one.scored.any(-1)] >= 0.6).any()
            ended += 1
        np.testing.assert_array_equal(one.trace.parents[:-1], free[i].trace.parents[: rounds - 1])
        np.testing.assert_array_equal(one.trace.tokens, free[i].trace.tokens[:rounds])
    assert ended
    for i, one in results(search, [3, 0]).items():
        assert_same(one, found[i])
    with pytest.raises(UserError, match="best_of_n writes all candidates before it scores one"):
        search_of(plan=dataclasses.replace(plan, strategy=make_strategy("best_of_n")))


@pytest.mark.parametrize("seconds", [1, 5, 9, 10_000])
def test_a_deadline_cuts_off_what_is_searched_and_leaves_out_the_rest(
    search, whole, seconds, monkeypatch
):
    clock = itertools.count()  # a second passes whenever it is looked at
    monkeypatch.setattr(deadline.time, "monotonic", lambda: next(clock))
    found = results(search, deadline=float(seconds))
    assert search.compilations == 1
    for i, one in found.items():
        if not one.cut:
            assert_same(one, whole[i])
            continue
        length = one.lengths
        assert (length <= PLAN.max_new_tokens).all()
        written = int((one.trace.ends - one.trace.starts).sum())
        assert one.ledger.decode_tokens == written <= whole[i].ledger.decode_tokens
        assert one.ledger.generations == PLAN.candidates
        rounds = len(one.trace.scores)
        np.testing.assert_array_equal(
            one.trace.tokens[: rounds - 1], whole[i].trace.tokens[: rounds - 1]
        )
        first = whole[i].trace.tokens[rounds - 1]
        last = one.trace.tokens[-1]
        assert ((last == first) | (last == 0)).all()
    cut = [one.cut for one in found.values()]
    assert (len(found) < 6 or any(cut)) == (seconds < 10_000)


def test_what_a_function_returns_is_checked():
    adapter = TextAdapter(TextFunction(lambda q, x: [0.5]), TOKENIZER)
    answers = [TOKENIZER.encode("ab"), TOKENIZER.encode("c")]
    shown = adapter.prompt("é ab")
    with pytest.raises(UserError, match="verifier <lambda> returned 1 scores for 2 solutions"):
        adapter.score(shown, answers)
    seen = []

    def told(question: str, solutions: Sequence[str]) -> np.ndarray:
        seen.append((question, list(solutions)))
        return np.array([1, 0])

    found, cost = TextAdapter(TextFunction(told), TOKENIZER, ["b"]).score(shown, answers)
    assert cost == Ledger()
    assert found.tolist() == [1, 0]
    assert seen == [("é ab", ["a", "c"])]
    for value, said in (
        (float("nan"), "the score nan; it must lie in 0 to 1$"),
        (7, "the score 7; it must lie in 0 to 1, so scale it"),
        (1 + 1e-12, r"the score 1\.000000000001; it must lie in 0 to 1, so scale it"),
        ("a", "could not convert string to float: .*'a'"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            TextAdapter(
                TextFunction(lambda q, x, v=value: np.array([v] * len(x))), TOKENIZER
            ).score(shown, answers)
        assert "\n" not in str(caught.value)
    for wrong, said in ((3, "must be a path or a function"), (TextFunction, "give TextFunction()")):
        with pytest.raises(UserError, match=said):
            load_verifier(wrong)  # pyright: ignore[reportArgumentType]
