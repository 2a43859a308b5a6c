"""Searches whose rows share histories: the same answers as where every row keeps all of its own."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import TINY, tiny_generator
from tests.search.own_strategy import KeepFirst
from tests.search.toy import SHALLOW, Grader, assert_alike, make_plan, make_search, marked_prm, run
from ttc_jax.errors import UserError
from ttc_jax.models.cache import BLOCK
from ttc_jax.models.shared_cache import SharedCache
from ttc_jax.search.histories import histories_of
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.sharding.mesh import make_mesh

T = BLOCK + 10  # histories of two blocks, the last one cut
RNG = np.random.default_rng(6)
QUESTIONS = [(RNG.integers(0, TINY.vocab_size, n).tolist(), n) for n in (1, 30, 8, 3)]
BEAM = make_plan(
    "beam", {"width": 2}, candidates=6, max_new_tokens=T, max_step_tokens=20, rounds=30, lookahead=1
)
DVTS = dataclasses.replace(BEAM, strategy=make_plan("dvts", {"width": 3}).strategy, lookahead=0)


def narrow(model: Any, *layers: str) -> Any:
    """The model with caches in int8."""
    model = nnx.clone(model)
    for path in layers:
        found = model
        for name in path.split("."):
            found = getattr(found, name)
        found.int8_cache = True
    return model


def make(case: str, **changes: Any) -> Search:
    generator, options = tiny_generator(SHALLOW), {"end_tokens": (3,), "batch": 2} | changes
    if case == "beam":
        return make_search(generator, marked_prm(SHALLOW, (36,), -1), BEAM, lanes=7, **options)
    verifier = narrow(marked_prm(SHALLOW), "trunk.layers", "layers")
    return make_search(narrow(generator, "layers"), verifier, DVTS, **options)


@pytest.fixture(scope="module", params=["beam", "dvts"])
def case(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def search(case: str) -> Search:
    return make(case, cache="shared")


@pytest.fixture(scope="module")
def found(search: Search) -> list[SearchResult]:
    with jax.transfer_guard_host_to_device("disallow"):
        return run(search, QUESTIONS)


def test_answers_are_those_of_rows_that_keep_their_own(case: str, search: Search, found):
    expected = run(make(case), QUESTIONS)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)
    assert search.compilations == 1
    assert max(x.lengths.max() for x in found) > BLOCK
    moved = [x.trace.parents != np.arange(6) for x in found]
    assert np.concatenate(moved).mean() > 0.1
    assert any(len(set(x.lengths)) > 1 for x in found)


def test_neither_place_nor_company_changes_a_bit(search: Search, found):
    for order in ([3, 0, 1, 2], [2], [3, 1]):
        for i, again in zip(order, run(search, [QUESTIONS[i] for i in order]), strict=True):
            jax.tree.map(np.testing.assert_array_equal, again, found[i])
    assert search.compilations == 1


def test_a_mesh_changes_no_answer():
    config = dataclasses.replace(SHALLOW, vocab_size=40)
    plan = dataclasses.replace(BEAM, lookahead=0)
    mesh = make_mesh(2, 2, jax.devices()[:4])
    searches = [
        make_search(tiny_generator(config), Grader(40), plan, end_tokens=(3,), **options)
        for options in ({"batch": 1}, {"mesh": mesh, "cache": "shared"})
    ]
    expected, found = (run(search, QUESTIONS[:3]) for search in searches)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)


def test_caches_take_a_history_a_parent_and_a_step_a_row():
    """Beam search, M = 4, steps of 128 tokens: about a third of the bytes."""
    plan = make_plan(candidates=64, max_new_tokens=2048, max_step_tokens=128)
    held = []
    for cache in ("", "shared"):
        options: dict[str, Any] = {"batch": 1, "cache": cache}
        state = make_search(tiny_generator(SHALLOW), marked_prm(SHALLOW), plan, **options).state(65)
        leaves = jax.tree.leaves((state.decode.cache, state.verifier))
        held.append(sum(x.size * x.dtype.itemsize for x in leaves if x.ndim >= 4))
        assert isinstance(state.decode.cache, SharedCache) == (cache == "shared")
    assert held[1] <= 0.35 * held[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "best_of_n"}, "best_of_n lets 4 candidates go on from any number of them"),
        (
            {"strategy": "rebase"},
            ".*; choose beam or dvts, with an M of 2 or more; or set execution",
        ),
        ({"options": {"width": 1}}, "beam lets 4 candidates go on from any"),
        ({"revisions": 2}, "search.revisions=2 reads earlier answers into them"),
    ],
)
def test_rows_that_cannot_share_are_refused(changes: dict[str, Any], said: str):
    plan = make_plan(**changes)
    with pytest.raises(UserError, match=f"execution.cache=shared: {said}"):
        make_search(tiny_generator(SHALLOW), Grader(), plan, cache="shared")
    assert histories_of(plan, "auto") == 0


@pytest.mark.parametrize(
    ("changes", "histories"),
    [
        ({}, 16),
        ({"candidates": 16}, 4),
        ({"candidates": 12}, 0),  # few
        ({"max_step_tokens": 256}, 16),
        ({"max_step_tokens": 257}, 0),  # a step is half of an answer
        ({"max_step_tokens": 128, "lookahead": 2}, 0),
        ({"strategy": "dvts", "options": {"width": 2}, "max_step_tokens": 128}, 32),
    ],
)
def test_auto_is_a_rule_of_shapes(changes: dict[str, Any], histories: int):
    settings: dict[str, Any] = {"candidates": 64, "max_new_tokens": 512}
    plan = make_plan(**settings | changes)
    assert histories_of(plan, "auto") == histories
    assert histories_of(plan, "") == 0


def test_another_word_is_refused():
    with pytest.raises(
        UserError, match="execution.cache is 'tree'; it must be shared, auto, or empty"
    ):
        make_search(tiny_generator(SHALLOW), Grader(), BEAM, cache="tree")


@dataclasses.dataclass(frozen=True)
class Promises(KeepFirst):
    """Goes on from one row alone, and says that each of two is gone on from by half of the rows."""

    def survivors(self, candidates: int) -> int:
        return 2


@dataclasses.dataclass(frozen=True)
class Lies(KeepFirst):
    """Lets every row go on by itself."""

    def select(self, scores: jax.Array, active: jax.Array, key: jax.Array) -> jax.Array:
        del active, key
        return jax.numpy.arange(len(scores))

    def survivors(self, candidates: int) -> int:
        return 2


def test_a_promise_of_fewer_rows_that_is_not_kept_is_an_error():
    plan = dataclasses.replace(BEAM, strategy=Lies(), lookahead=0)
    with pytest.raises(UserError, match=r"6 different rows; .survivors says 2 at most"):
        make_search(tiny_generator(SHALLOW), Grader(), plan)
    search = make_search(
        tiny_generator(SHALLOW),
        Grader(),
        dataclasses.replace(plan, strategy=Promises()),
        cache="shared",
    )
    with pytest.raises(UserError, match="Promises.survivors promised that 6 rows go on from 2 at"):
        run(search, QUESTIONS[:1])
