"""Rollouts, against an oracle that feeds prompt, prefix and end anew for every token."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sampling.oracle import TINY, Oracle, tiny_generator
from ttc_jax.errors import UserError
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.keys import candidate_keys
from ttc_jax.sampling.rollouts import Finished, Prefix, Rollouts
from ttc_jax.sampling.sampler import Samples, pad_prompts

END, LONGEST = 5, 70  # more than a block of the suffix cache
CANDIDATES, SEED, ENDS, SLOTS, ROWS = 3, 0, 3, 2, 4
NUMBERS = (11, 2**32 - 1, 0, 3)
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(6, TINY.vocab_size, length).tolist() for length in (1, 2, 9, 33)]
AccuracyTable = dict[int, tuple[Samples, Finished]]


@pytest.fixture(scope="module")
def model():
    return tiny_generator()


def make(model, **changes) -> Rollouts:
    options = {
        "ends": ENDS,
        "slots": SLOTS,
        "rows": ROWS,
        "end_tokens": (END,),
        "candidates": CANDIDATES,
        "max_new_tokens": LONGEST,
        "batch": 3,
        "seed": SEED,
    }
    return Rollouts(model, **options | changes)


@pytest.fixture(scope="module")
def rollouts(model) -> Rollouts:
    return make(model)


def choose(i: int, samples: Samples) -> list[Prefix]:
    """Two from each answer of the first and last question, one of the second, none of the third."""

    def of(n: int) -> list[Prefix]:
        length = int(samples.lengths[n])
        return [Prefix(n, at) for at in sorted({1 + 5 * n, length - 1}) if 0 < at < length]

    return {0: [*of(0), *of(1), *of(2)], 1: of(1)[:1], 2: []}.get(i, [*of(2), *of(0), *of(1)])


def run(rollouts: Rollouts, questions: Sequence[int] = range(4), choose=choose) -> AccuracyTable:
    found = rollouts.run(
        [PROMPTS[i] for i in questions],
        [NUMBERS[i] for i in questions],
        lambda index, samples: choose(questions[index], samples),
    )
    outcomes = list(found)
    assert len(outcomes) == len(questions)
    return {questions[index]: (samples, finished) for index, samples, finished in outcomes}


@pytest.fixture(scope="module")
def outcomes(rollouts) -> AccuracyTable:
    return run(rollouts)


def assert_same(found: Finished, expected: Finished, places=slice(None), ends=ENDS) -> None:
    np.testing.assert_array_equal(found.tokens, expected.tokens[places, :ends])
    np.testing.assert_array_equal(found.lengths, expected.lengths[places, :ends])


def test_samples_are_the_samplers(rollouts, outcomes):
    samples = rollouts.sample(PROMPTS[:3], NUMBERS[:3])
    for i in range(3):
        np.testing.assert_array_equal(outcomes[i][0].tokens, samples.tokens[i])
        np.testing.assert_array_equal(outcomes[i][0].finished, samples.finished[i])


def test_ends_are_those_of_the_oracle(model, outcomes):
    keys = candidate_keys(SEED, jnp.array(NUMBERS, jnp.uint32), CANDIDATES)
    rows, found, longest = [], [], 0
    for i, (samples, finished) in sorted(outcomes.items()):
        places = choose(i, samples)
        assert finished.tokens.shape == (len(places), ENDS, LONGEST)
        for j, (n, length) in enumerate(places):
            key = jax.random.fold_in(keys[i, n], LONGEST + length)
            prefix = samples.tokens[n, :length].tolist()
            longest = max(longest, length)
            for k in range(ENDS):
                rows.append((PROMPTS[i], jax.random.fold_in(key, k), prefix))
                found.append(finished.tokens[j, k, : finished.lengths[j, k]].tolist())
                assert not finished.tokens[j, k, finished.lengths[j, k] :].any()
    oracle = Oracle(model, len(rows), 40 + LONGEST)
    answers = oracle.write(
        rows, max_new_tokens=LONGEST, end_tokens=(END,), sampling=SamplingParams()
    )
    assert found == [answer.tokens for answer in answers]
    assert longest > 64
    assert 0 < sum(answer.finished for answer in answers) < len(answers)
    assert len({tuple(tokens) for tokens in found}) > len(found) / 2


def test_ends_depend_neither_on_slots_nor_rows_nor_batch_nor_n_nor_k(model, outcomes):
    def same(i: int, samples: Samples) -> list[Prefix]:
        return choose(i, Samples(*(x[:CANDIDATES] for x in samples)))

    other = make(model, slots=1, rows=5, batch=2, candidates=CANDIDATES + 1, ends=ENDS - 1)
    for i, (_, finished) in run(other, choose=same).items():
        assert_same(finished, outcomes[i][1], ends=ENDS - 1)


def test_ends_depend_neither_on_order_nor_company(rollouts, outcomes):
    for questions in ([3, 0], [0]):
        found = run(rollouts, questions, lambda i, samples: choose(i, samples)[::-1])
        for i in questions:
            assert_same(found[i][1], outcomes[i][1], slice(None, None, -1))


def test_one_program_each_and_no_hidden_transfer(rollouts, outcomes):
    before = rollouts.useful_steps, rollouts.row_steps
    with jax.transfer_guard("disallow"):
        found = run(rollouts)
    for i, (_, finished) in found.items():
        assert_same(finished, outcomes[i][1])
    programs = (rollouts._paused, rollouts._segment, rollouts._decode)
    assert [program._cache_size() for program in programs] == [1, 1, 1]
    drawn = 0
    for i, (samples, finished) in outcomes.items():
        for place, lengths in zip(choose(i, samples), finished.lengths, strict=True):
            drawn += int(lengths.sum()) - ENDS * place.length
    assert rollouts.useful_steps - before[0] == drawn
    assert drawn < rollouts.row_steps - before[1] < 3 * drawn


def test_resting_rows_and_slots_get_work_before_the_last_is_done(rollouts, monkeypatch):
    given, segment = [], rollouts._segment

    def watched(*arguments):
        given.append((int(arguments[-1].sum()), int(arguments[0][-1])))
        return segment(*arguments)

    monkeypatch.setattr(rollouts, "_segment", watched)
    done = list(run(rollouts))
    waiting, left = zip(*given, strict=True)
    # The shortest two come first; then the third has no prefix, and the fourth gets its slot.
    assert done[:2] == [1, 2]
    assert done[2:] in ([0, 3], [3, 0])
    assert left[0] == 2
    assert left[-1] == waiting[-1] == 0
    assert len(set(waiting)) > 4


class Pretended(Rollouts):
    """The host's part alone: rows draw what is drawn up for them, and rest at any time."""

    def __init__(self, rng: np.random.Generator, **sizes: int):
        self.rng, self.max_new_tokens, self.mesh = rng, 9, None
        self._parameters, self._ends = None, np.zeros(1, bool)
        self.ends, self.slots, self.rows, self.batch = (sizes[x] for x in "kbwq")
        self.useful_steps = self.row_steps = 0

    def write(self, prompts, numbers, limits=None, thinking=None) -> Any:
        del limits, thinking
        samples = Samples(np.zeros((len(prompts), 2, 9), int), *np.full((3, len(prompts), 2), 9))
        return samples, list(numbers)

    def _paused(self, shared, state):
        shape = (self.slots, self.rows)
        active, lengths, tokens = np.zeros(shape, bool), np.zeros(shape, int), np.zeros((*shape, 9))
        cache = SimpleNamespace(active=active, length=lengths)
        return [None] * self.slots, SimpleNamespace(cache=cache, tokens=tokens)

    def _take(self, source, state, slot, place):
        source[int(slot)] = state[int(place)]
        return source

    def _segment(self, shared, source, rows, tasks, waiting):
        new, parents, lengths, numbers = np.moveaxis(np.asarray(tasks), 1, 0)
        active = rows.cache.active
        assert not (active & (new > 0)).any()
        assert (active | (new > 0)).any()
        for slot, row in np.argwhere(new):
            active[slot, row], rows.cache.length[slot, row] = True, lengths[slot, row]
            told = (source[slot], parents[slot, row], lengths[slot, row], numbers[slot, row])
            rows.tokens[slot, row, :4] = told
        rows.cache.length += active
        active &= self.rng.random(active.shape) < 0.6
        active &= rows.cache.length < 9
        return rows


@given(
    st.integers(0, 2**32 - 1),
    st.fixed_dictionaries({name: st.integers(1, 4) for name in "kbwq"}),
    st.lists(st.integers(0, 5), max_size=7),
)
def test_every_rollout_is_done_once(seed, sizes, chosen):
    """`chosen`: how many prefixes each question has."""
    rollouts = Pretended(np.random.default_rng(seed), **sizes)
    places = [[Prefix(j % 2, 1 + j) for j in range(count)] for count in chosen]
    found = list(
        rollouts.run(
            [[1] * (1 + i % 3) for i in range(len(chosen))],
            [100 + i for i in range(len(chosen))],
            lambda i, _: places[i],
        )
    )
    assert sorted(i for i, *_ in found) == list(range(len(chosen)))
    for i, _, finished in found:
        assert finished.lengths.shape == (chosen[i], sizes["k"])
        for j, k in np.ndindex(finished.lengths.shape):
            assert finished.tokens[j, k, :4].tolist() == [100 + i, *places[i][j], k]
            assert places[i][j].length < finished.lengths[j, k] <= 9
    drawn = sum(
        int(finished.lengths.sum()) - sizes["k"] * sum(place.length for place in places[i])
        for i, _, finished in found
    )
    assert rollouts.useful_steps == drawn <= rollouts.row_steps


def test_rows_are_donated_and_samples_kept(rollouts):
    streams = np.zeros((3, 2), np.uint32)
    state = rollouts._start(rollouts._parameters, *pad_prompts(PROMPTS[:3], 3), streams)
    source, rows = rollouts._paused((), state)
    shared = (rollouts._parameters, rollouts._table, np.int32(0))
    arguments = (shared, source, rows, np.ones((SLOTS, 4, ROWS), np.int32))
    arguments += (np.zeros(SLOTS, np.int32),)
    compiled = rollouts._segment.lower(*arguments).compile()
    for word in ("callback", "infeed", "outfeed", "send(", "recv("):
        assert word not in compiled.as_text().lower()
    caches = jax.tree.leaves(rows.cache.suffix)
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(x.nbytes for x in caches)
    rollouts._segment(*arguments)
    assert all(x.is_deleted() for x in caches)
    assert not any(x.is_deleted() for x in jax.tree.leaves((source, state)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"ends": 0}, "ends"), ({"slots": 0}, "slots"), ({"rows": 0}, "rows_per_question")],
)
def test_sizes_below_one_are_refused(model, changes, field):
    with pytest.raises(UserError, match=rf"rollouts\.{field} is 0; it must be at least 1"):
        make(model, **changes)
