"""Rollouts, against an oracle that feeds prompt, prefix and end anew for every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.oracle import TINY, Oracle, tiny_generator
from ttc_jax.errors import UserError
from ttc_jax.sampling.draw import Drawing, candidate_keys
from ttc_jax.sampling.rollouts import Finished, Prefix, Rollouts
from ttc_jax.sampling.sampler import DecodeState, Samples

END, LONGEST = 5, 70  # more than a block of the suffix cache
CANDIDATES, SEED, ENDS, ROWS = 3, 0, 3, 4
NUMBERS = (11, 2**32 - 1, 0, 3)
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(6, TINY.vocab_size, length).tolist() for length in (1, 2, 9, 33)]


@pytest.fixture(scope="module")
def model():
    return tiny_generator()


def make(model, **changes) -> Rollouts:
    options = {
        "rows": ROWS,
        "end_tokens": (END,),
        "candidates": CANDIDATES,
        "max_new_tokens": LONGEST,
        "batch": 4,
        "seed": SEED,
    }
    return Rollouts(model, **options | changes)


@pytest.fixture(scope="module")
def rollouts(model) -> Rollouts:
    return make(model)


@pytest.fixture(scope="module")
def written(rollouts) -> tuple[Samples, DecodeState]:
    return rollouts.write(PROMPTS, NUMBERS)


@pytest.fixture(scope="module")
def prefixes(written) -> list[list[Prefix]]:
    """Two from each answer of the first and last question, one of the second, none of the third."""
    lengths = written[0].lengths

    def cut(i: int, n: int) -> list[Prefix]:
        """From the first token to the last but one, which of the longest lies in another block."""
        return [
            Prefix(n, int(at)) for at in {1 + 5 * n, lengths[i, n] - 1} if 0 < at < lengths[i, n]
        ]

    return [
        [place for n in range(CANDIDATES) for place in cut(0, n)],
        cut(1, 1)[:1],
        [],
        [place for n in range(CANDIDATES) for place in cut(3, n)],
    ]


@pytest.fixture(scope="module")
def finished(rollouts, written, prefixes) -> list[Finished]:
    return rollouts.finish(written[1], prefixes, ENDS)


def assert_same(found: Finished, expected: Finished, rows=slice(None)) -> None:
    np.testing.assert_array_equal(found.tokens, expected.tokens[rows])
    np.testing.assert_array_equal(found.lengths, expected.lengths[rows])


def test_ends_are_those_of_the_oracle(model, written, prefixes, finished):
    keys = candidate_keys(SEED, jnp.array(NUMBERS, jnp.uint32), CANDIDATES)
    rows = []
    for i, places in enumerate(prefixes):
        for n, length in places:
            key = jax.random.fold_in(keys[i, n], LONGEST + length)
            prefix = written[0].tokens[i, n, :length].tolist()
            rows += [(PROMPTS[i], jax.random.fold_in(key, k), prefix) for k in range(ENDS)]
    oracle = Oracle(model, len(rows), 40 + LONGEST)
    answers = oracle.write(rows, max_new_tokens=LONGEST, end_tokens=(END,), drawing=Drawing())
    found = [
        tokens[:length].tolist()
        for question in finished
        for tokens, length in zip(
            question.tokens.reshape(-1, LONGEST), question.lengths.reshape(-1), strict=True
        )
    ]
    assert found == [answer.tokens for answer in answers]
    assert max(length for places in prefixes for _, length in places) > 64
    assert any(answer.finished for answer in answers)
    assert not all(answer.finished for answer in answers)
    assert len({tuple(tokens) for tokens in found}) > len(found) / 2


def test_ends_depend_neither_on_rows_nor_batch_nor_n(model, prefixes, finished):
    other = make(model, rows=5, batch=2, candidates=CANDIDATES + 1)
    for i in (0, 3):
        _, state = other.write([PROMPTS[i]], [NUMBERS[i]])
        [found] = other.finish(state, [prefixes[i]], ENDS)
        assert_same(found, finished[i])


def test_ends_depend_neither_on_order_nor_company_nor_k(rollouts, prefixes, finished):
    _, state = rollouts.write([PROMPTS[3], PROMPTS[0]], [NUMBERS[3], NUMBERS[0]])
    places = [prefixes[3][::-1], prefixes[0][1:2]]
    for ends in (ENDS, 1):
        found = rollouts.finish(state, places, ends)
        fewer = [Finished(x.tokens[:, :ends], x.lengths[:, :ends]) for x in finished]
        assert_same(found[0], fewer[3], slice(None, None, -1))
        assert_same(found[1], fewer[0], slice(1, 2))


def test_one_program_and_no_hidden_transfer(rollouts, prefixes, finished):
    before = rollouts.useful_steps, rollouts.row_steps
    with jax.transfer_guard("disallow"):
        _, state = rollouts.write(PROMPTS, NUMBERS)
        found = rollouts.finish(state, prefixes, ENDS)
    for question, expected in zip(found, finished, strict=True):
        assert_same(question, expected)
    assert rollouts._segment._cache_size() == rollouts._rest._cache_size() == 1
    assert rollouts.compilations == 2  # of the samples, and of the rollouts
    drawn = sum(
        int((question.lengths - np.array([[p.length] for p in places])).sum())
        for question, places in zip(finished, prefixes, strict=True)
        if places
    )
    useful, steps = rollouts.useful_steps - before[0], rollouts.row_steps - before[1]
    assert useful == drawn
    assert drawn < steps < drawn * 4  # half of the questions have next to nothing to do


def test_resting_rows_get_work_before_the_last_is_done(rollouts, written, prefixes, monkeypatch):
    waiting, segment = [], rollouts._segment
    monkeypatch.setattr(
        rollouts,
        "_segment",
        lambda *arguments: waiting.append(arguments[-1]) or segment(*arguments),
    )
    rollouts.finish(written[1], prefixes, ENDS)
    left = [int(x.sum()) for x in waiting]
    assert left[0] == sum(max(0, len(places) * ENDS - ROWS) for places in prefixes)
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert len(set(left)) > 4


def test_rows_are_donated_and_samples_kept(rollouts, written):
    state = written[1]
    rows = rollouts._rest(state)
    tasks, waiting = np.ones((4, 4, ROWS), np.int32), np.zeros(4, np.int32)
    arguments = (rollouts._parameters, state, rows, tasks, waiting)
    compiled = rollouts._segment.lower(*arguments).compile()
    for word in ("callback", "infeed", "outfeed", "send(", "recv("):
        assert word not in compiled.as_text().lower()
    caches = (*rows.cache.suffix_k, *rows.cache.suffix_v)
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(x.nbytes for x in caches)
    rollouts._segment(*arguments)
    assert all(x.is_deleted() for x in caches)
    assert not any(x.is_deleted() for x in jax.tree.leaves(state))


def test_a_question_without_prefixes_costs_nothing(rollouts, written):
    before = rollouts.row_steps
    found = rollouts.finish(written[1], [[], []], ENDS)
    assert [question.tokens.shape for question in found] == [(0, ENDS, LONGEST)] * 2
    assert rollouts.row_steps == before


def test_no_rows_are_refused(model):
    with pytest.raises(UserError, match=r"rollouts\.rows is 0; it must be at least 1"):
        make(model, rows=0)
