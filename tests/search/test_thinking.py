"""Searches for answers of a model that thinks first."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search.toy import DELIMITERS, ENDS, SHALLOW, Grader, make_plan, make_search, run
from ttc_jax.errors import UserError
from ttc_jax.sampling.sampler import Sampler
from ttc_jax.sampling.thinking import Thinking
from ttc_jax.search.search import Search, SearchResult

OPEN, CLOSE, BLANK = 1, 2, DELIMITERS[0]
THINKING = Thinking(CLOSE, OPEN, (20, CLOSE, BLANK), (23, 24), 3, 7, blanks=(BLANK,), ends=ENDS)
QUESTIONS = [([7, OPEN], 5), ([9, 9, OPEN, BLANK], 6), ([8], 7), ([OPEN, CLOSE, BLANK], 8)]
LONGEST, N = 24, 4


@pytest.fixture(scope="module")
def model():
    return tiny_generator(SHALLOW)


def search_of(model, strategy="best_of_n", verifier=None, thinking=THINKING, **changes) -> Search:
    names = {"revisions", "between", "lookahead", "rounds"}
    plan = {name: changes.pop(name) for name in names & changes.keys()}
    plan = {"max_new_tokens": LONGEST, "candidates": N, "thinking": thinking} | plan
    return make_search(model, verifier, make_plan(strategy, **plan), **changes)


@pytest.fixture(scope="module")
def plain(model) -> Search:
    return search_of(model)


@pytest.fixture(scope="module")
def found(plain) -> list[SearchResult]:
    return run(plain, QUESTIONS)


def test_best_of_n_writes_what_the_sampler_does_and_pays_for_what_is_forced(model, found):
    options = {"candidates": N, "max_new_tokens": LONGEST, "end_tokens": ENDS, "seed": 3}
    sampler = Sampler(model, batch=4, thinking=THINKING, **options)
    samples = sampler.sample([prompt for prompt, _ in QUESTIONS], [n for _, n in QUESTIONS])
    for i, result in enumerate(found):
        np.testing.assert_array_equal(result.tokens, samples.tokens[i])
        np.testing.assert_array_equal(result.lengths, samples.lengths[i])
        assert result.ledger.decode_tokens == result.lengths.sum()
        for n in range(N):
            row = result.tokens[n, : result.lengths[n]].tolist()
            assert result.thought_of(n) == THINKING.thought_of(row, QUESTIONS[i][0])
    thoughts = [result.thoughts for result in found]
    assert thoughts[3] == (0,) * N  # the prompt closed it
    # Opened by the prompt: three tokens at least, seven and two of the closing text at most.
    assert all(4 <= n <= 9 for n in thoughts[0] + thoughts[1])
    assert any(n == 9 for n in thoughts[0] + thoughts[1])


def test_budgets_change_without_a_compilation_or_a_hidden_transfer(plain, found):
    for least, most in [(0, 0), (5, 5), (0, None), (3, 7)]:
        budget = dataclasses.replace(THINKING, minimum=least, maximum=most)
        with jax.transfer_guard("disallow"):
            results = dict(plain.run(*map(list, zip(*QUESTIONS, strict=True)), thinking=budget))
        if least == most:
            assert {n for i in (0, 1) for n in results[i].thoughts} <= {least + 1, least + 2}
    assert plain.compilations == 1
    for i, result in enumerate(found):  # the last budget was that of the plan
        np.testing.assert_array_equal(results[i].tokens, result.tokens)
        np.testing.assert_array_equal(results[i].log_prob, result.log_prob)
    with pytest.raises(UserError, match="only minimum and maximum may change"):
        list(plain.run([[7]], [5], thinking=dataclasses.replace(THINKING, open=3)))


def test_neither_company_nor_lanes_change_a_text(model, plain, found):
    alone = [run(plain, [question])[0] for question in QUESTIONS]
    in_lanes = run(search_of(model, lanes=3), QUESTIONS)
    for one, other, expected in zip(alone, in_lanes, found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, expected)
        np.testing.assert_array_equal(other.tokens, expected.tokens)
        assert other.thoughts == expected.thoughts


def test_only_steps_of_the_answer_are_scored_unless_thoughts_are_to_be(model):
    prm = Grader()
    every = dataclasses.replace(THINKING, steps=True)
    of_answer = run(search_of(model, verifier=prm), QUESTIONS)
    of_all = run(search_of(model, verifier=prm, thinking=every), QUESTIONS)
    inside = 0
    for one, other in zip(of_answer, of_all, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        at, thoughts = np.arange(LONGEST), np.array(one.thoughts)[:, None]
        # A blank behind the mark is no step of the answer.
        blank = (at == thoughts) & (one.tokens == BLANK)
        np.testing.assert_array_equal(one.scored, other.scored & (at >= thoughts) & ~blank)
        np.testing.assert_allclose(one.step_scores[one.scored], other.step_scores[one.scored])
        inside += int((other.scored & (at < thoughts)).sum())
        assert one.ledger == other.ledger  # it reads the thought all the same
    assert inside


def test_an_earlier_answer_is_revised_without_its_thought(model):
    between = (9, OPEN)
    results = run(search_of(model, revisions=3, between=between), QUESTIONS)
    for result in results:
        lengths = result.lengths.reshape(N, 3) - result.finished.reshape(N, 3)
        answers = np.maximum(lengths - np.array(result.thoughts).reshape(N, 3), 0) + len(between)
        np.testing.assert_array_equal(result.trace.contexts[1], answers[:, 0])
        np.testing.assert_array_equal(result.trace.contexts[2], answers[:, :2].sum(-1))
        revised = np.array(result.thoughts).reshape(N, 3)[:, 1:]
        assert ((revised >= 4) & (revised <= 9)).all()  # `between` opens a thought


def test_a_search_over_paragraphs_keeps_the_budget(model):
    """Rows are forked, and put back behind their lookahead, within thoughts and forced texts."""
    every = dataclasses.replace(THINKING, steps=True)
    options = {"thinking": every, "lookahead": 1, "rounds": 30}
    for result in run(search_of(model, "beam", Grader(), **options), QUESTIONS[:2]):
        for n in range(N):
            row = result.tokens[n, : result.lengths[n]].tolist()
            if CLOSE not in row:
                assert row[-1] in ENDS  # it ended within its thought
            thought = row[: row.index(CLOSE) if CLOSE in row else len(row)]
            assert 3 <= len(thought) <= 8
            if len(thought) == 8:
                assert row[7:10] == list(THINKING.closing)[: len(row) - 7]
        assert result.ledger.decode_tokens == (result.trace.ends - result.trace.starts).sum()


@pytest.mark.parametrize("lookahead", [0, 1])
def test_a_search_over_the_answer_has_the_thought_in_its_first_step(model, lookahead: int):
    search = search_of(model, "beam", Grader(), lookahead=lookahead, rounds=30)
    most, inside, steps = search.plan.max_step_tokens, 0, 0
    for (prompt, _), result in zip(QUESTIONS, run(search, QUESTIONS), strict=True):
        trace = result.trace
        for n in range(N):  # what the row wrote first, also where another took its place
            first = trace.tokens[0, n, : trace.ends[0, n]].tolist()
            thought = THINKING.thought_of(first, prompt)
            inside += any(token in DELIMITERS for token in first[:thought])
            # It pauses where a step of the answer ends, and nowhere before.
            ends = [i for i, x in enumerate(first[thought:]) if x in DELIMITERS]
            text = [i for i, x in enumerate(first[thought:]) if x != BLANK]
            ends = [i for i in ends if text and i >= text[0]]
            written = len(first) - thought
            assert written <= most
            assert ends in ([], [written - 1])
            assert ends or written == most or first[-1] in ENDS
        written = (trace.ends - trace.starts)[1:]
        steps += int((written > 0).sum())
        if OPEN not in prompt:  # a thought may begin in any step, and is part of that
            continue
        assert (written <= most).all()
        assert not (result.scored & (np.arange(LONGEST) < np.array(result.thoughts)[:, None])).any()
    assert inside
    assert steps


def test_programs_can_be_lowered(plain):
    assert set(plain.lower(65)) == {"admit", "insert", "segment"}
