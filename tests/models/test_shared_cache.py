"""Histories that rows share: who sits where, and attention as over rows that keep their own."""

import dataclasses

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.models.test_transformer import EVERYTHING, build
from ttc_jax.models.cache import BLOCK, KVCache
from ttc_jax.models.shared_cache import SharedCache, assign

N, Q = 6, 3
M = N // Q
RNG = np.random.default_rng(3)
_assign = jax.jit(assign, static_argnums=3)


def parents_of(draw: st.DrawFn, live: list[bool]) -> list[int]:
    """Of live rows: live ones, Q at most, each of N / Q at most."""
    going = [n for n in range(N) if live[n]]
    chosen = draw(st.permutations(going))[:Q]
    seats = draw(st.permutations([row for row in chosen for _ in range(M)]))
    parents = list(range(N))
    for row, parent in zip(going, seats, strict=False):
        parents[row] = parent
    return parents


@st.composite
def selections(draw: st.DrawFn) -> list[tuple[list[bool], list[int]]]:
    """Rounds of a search, in which rows finish for good."""
    live, rounds = [True] * N, []
    for _ in range(draw(st.integers(1, 6))):
        live = [x and draw(st.integers(0, 5)) > 0 for x in live]
        rounds.append((live, parents_of(draw, live)))
    return rounds


@hypothesis.settings(max_examples=60)
@hypothesis.given(selections())
def test_rows_sit_at_what_their_parents_held(rounds):
    """Beside a tree kept by hand: the texts of rows, and of the histories that are moved."""
    seat = np.arange(N)
    texts, histories = [""] * N, [""] * Q
    for number, (live, parents) in enumerate(rounds):
        before = list(histories)
        texts = [text + f"{number}{row} " for row, text in enumerate(texts)]
        found = _assign(jnp.array(parents), jnp.array(live), jnp.array(seat), Q)
        sits, source = (np.asarray(x) for x in found)
        assert sorted(sits) == list(range(N))
        going = np.flatnonzero(live)
        chosen = sorted(row for row in source if row < N)
        assert chosen == sorted({parents[row] for row in going})
        for place, row in enumerate(source):
            if row < N:
                home = seat[row] // M
                histories[place] = before[home] + f"{number}{row} "
                # A copy is made beside an earlier row that stays, and of nothing else.
                assert home == place or (seat[source[home]] // M == home and source[home] < row)
        texts, seat = [texts[parent] for parent in parents], sits
        for row in going:
            assert histories[seat[row] // M] == texts[row]


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "int8"])
def model(request):
    model = build(EVERYTHING)  # with windows and soft caps
    model.layers.int8_cache = request.param
    return model


@pytest.fixture(scope="module")
def caches(model) -> tuple[KVCache, SharedCache]:
    """Two questions."""
    prompts = RNG.integers(0, 53, (2, 9), dtype=np.int32)
    _, prompt = jax.jit(lambda model: model.prefill(jnp.asarray(prompts)))(model)
    plain = KVCache.fork(prompt, jnp.array([3, 9]), N, 3 * BLOCK)
    return plain, SharedCache.of(plain, Q, BLOCK + 4)


def test_attention_is_that_of_rows_that_keep_their_own(model, caches):
    """Steps of different lengths, over a few blocks and up to the last slot; some rows finish."""
    plain, shared = caches
    extend = jax.jit(lambda model, tokens, cache: model.extend(tokens, cache))
    gather = jax.jit(lambda cache, parents, live: cache.gather(parents, live))
    live = np.ones((2, N), bool)
    loose = 1e-5 if not model.layers.int8_cache else 2e-2
    for number, longest in enumerate((40, 62, 3, 50, 36)):
        left = 3 * BLOCK - np.asarray(plain.stored)
        steps = np.minimum(RNG.integers(1, longest + 1, (2, N)), left)
        steps[:, 1] = np.minimum(longest, left[:, 1])
        for first in range(0, longest, 4):
            real = np.where(live, np.clip(steps - first, 0, 4), 0)
            tokens = RNG.integers(0, 53, (2, N, 4), dtype=np.int32)
            active = jnp.asarray(real > 0)
            found = []
            for cache in (plain, shared):
                hidden, cache = extend(model, tokens, dataclasses.replace(cache, active=active))
                found.append((np.asarray(hidden), cache.advance(jnp.asarray(real, jnp.int32))))
            (expected, plain), (hidden, shared) = found
            inside = np.arange(4) < real[..., None]
            np.testing.assert_allclose(hidden[inside], expected[inside], atol=loose)
        if number:
            live[number % 2, number] = False
        parents = np.stack([_parents(row) for row in live])
        plain, shared = (
            gather(x, jnp.asarray(parents), jnp.asarray(live)) for x in (plain, shared)
        )
        np.testing.assert_array_equal(plain.stored, shared.stored)


def _parents(live: np.ndarray) -> np.ndarray:
    going = np.flatnonzero(live)
    parents = np.arange(N)
    parents[going] = np.repeat(RNG.permutation(going)[:Q], M)[: len(going)]
    return parents
