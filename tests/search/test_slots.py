"""Questions that come and go while others are searched, with limits of their own."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping

import jax
import numpy as np
import pytest

from tests.sampling.oracle import tiny_generator
from tests.search.toy import SHALLOW, Grader, make_plan, make_search
from ttc_jax.errors import UserError
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.search.request import Limits, Request
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.slots import Slots, Waiting

OWN = make_plan("beam", {"width": 2}, lookahead=1, own_limits=True)
T = OWN.max_new_tokens
PROMPTS = ([5, 6, 7], [9, 2], [20, 21, 22, 23], [1])
LIMITS = (
    Limits(T),
    Limits(5, SamplingParams(temperature=0.3)),
    Limits(T, SamplingParams(temperature=0)),
    Limits(9, SamplingParams(1.5, top_k=7, top_p=0.8)),
)


@pytest.fixture(scope="module")
def search() -> Search:
    return make_search(tiny_generator(SHALLOW), Grader(), OWN)


def requests(search: Search) -> dict[int, Request]:
    given = enumerate(zip(PROMPTS, LIMITS, strict=True))
    return {i: search.request(prompt, i, limits=limits) for i, (prompt, limits) in given}


def slots_of(search: Search, asked: Mapping[int, Request]) -> tuple[Slots, deque[Waiting]]:
    [buckets] = {search.engine.buckets(request) for request in asked.values()}
    return Slots(search.engine, buckets), deque(Waiting(i, x) for i, x in asked.items())


def finished(
    search: Search, asked: Mapping[int, Request], tokens: int = 3
) -> Iterator[tuple[int, SearchResult]]:
    slots, waiting = slots_of(search, asked)
    while waiting or slots.held:
        slots.admit(waiting)
        slots.advance(1, tokens)
        for done in slots.leave():
            yield done.index, search.result(done, asked[done.index])


@pytest.fixture(scope="module")
def together(search: Search) -> dict[int, SearchResult]:
    return dict(finished(search, requests(search)))


def assert_same(found: SearchResult, expected: SearchResult) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_questions_with_limits_of_their_own_share_a_program(search: Search, together):
    for i, request in requests(search).items():
        assert_same(dict(finished(search, {i: request}, tokens=100))[i], together[i])
    assert search.compilations == 1


def test_limits_hold_and_those_of_the_plan_change_nothing(together):
    for i, limits in enumerate(LIMITS):
        assert together[i].lengths.max() <= limits.tokens
    plan = dataclasses.replace(OWN, own_limits=False)
    [(_, found)] = make_search(tiny_generator(SHALLOW), Grader(), plan).run([PROMPTS[0]], [0])
    np.testing.assert_array_equal(found.tokens, together[0].tokens)
    np.testing.assert_array_equal(found.trace.parents, together[0].trace.parents)


def test_a_question_that_is_cut_leaves_the_others_as_they_are(search: Search, together):
    asked = {i: x for i, x in requests(search).items() if i in (0, 2)}
    slots, waiting = slots_of(search, asked)
    slots.admit(waiting)
    slots.advance(1, 1)
    [one, other] = slots.written()
    assert one.drafts.lengths.max() == other.drafts.lengths.max() == 1
    slots.cut([0, 77])
    [done] = slots.leave()
    assert done.index == 0
    assert done.cut
    assert search.result(done, asked[0]).lengths.max() == 1
    assert slots.held == {2}
    assert slots.free == 1
    slots.advance(1)
    [done] = slots.leave()
    assert not done.cut
    assert_same(search.result(done, asked[2]), together[2])


@pytest.mark.parametrize("tokens", [0, T + 1])
def test_a_limit_that_the_program_has_no_room_for_is_refused(search: Search, tokens: int):
    with pytest.raises(UserError, match=f"an answer of up to {tokens} tokens"):
        search.request([1], 0, limits=Limits(tokens))
