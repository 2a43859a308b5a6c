"""Each strategy's choice against the same told in plain Python, with ties and finished rows."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.sampling.oracle import tiny_generator
from tests.search.choices import Seen, UnclearError, begun, choose
from tests.search.own_strategy import KeepFirst
from tests.search.toy import SHALLOW, Grader, make_plan, make_search, run
from ttc_jax.errors import UserError
from ttc_jax.search.strategies import STOP, STRATEGIES, Strategy, View, make_strategy, name_of
from ttc_jax.search.strategies.deepconf import Confidence

CHOICES = [
    ("beam", {"width": 1}, 1),
    ("beam", {"width": 1}, 6),
    ("beam", {"width": 2}, 6),
    ("beam", {}, 8),
    ("beam", {"width": 6}, 6),
    ("beam", {"width": 0}, 9),
    ("dvts", {"width": 1}, 4),
    ("dvts", {"width": 2}, 6),
    ("dvts", {}, 8),
    ("dvts", {"width": 0}, 9),
    ("rebase", {}, 1),
    ("rebase", {}, 6),
    ("rebase", {"temperature": 1.0}, 9),
    ("particles", {}, 1),
    ("particles", {}, 6),
    ("particles", {"temperature": 3.0}, 9),
    ("smc", {}, 6),
    ("smc", {"threshold": 0.9, "temperature": 3.0}, 8),
    ("smc", {"threshold": 1.0}, 1),
    ("diverse_beam", {"width": 2}, 6),
    ("diverse_beam", {"width": 0, "penalty": 1.0}, 9),
    ("diverse_beam", {"penalty": 0.0}, 8),
    ("deepconf", {"window": 1, "warmup": 1, "keep": 0.5}, 6),
    ("deepconf", {"keep": 0.7}, 8),
    ("deepconf", {"window": 3, "warmup": 3, "keep": 0.1}, 5),
]
ROUNDS = 3
SCORES = st.sampled_from([0.0625, 0.25, 0.5, 0.5625, 0.75, 0.9375])


@functools.cache
def compiled(name: str, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(make_strategy(name, **dict(options)).update)


def select(name: str, options: dict[str, Any], scores, active, seed: int = 0) -> np.ndarray:
    """What a strategy chooses first, of rows that are alike but for their scores."""
    N = len(scores)
    alike = {name: [1] * N for name in ("log_prob", "lengths", "entropy")}
    seen = Seen(scores, active, [[x] for x in scores], hidden=[np.ones(2)] * N, round=0, **alike)
    return update(name, options, seen, make_strategy(name, **options).init(N), seed)[0]


def update(
    name: str, options: dict[str, Any], seen: Seen, state: Any, seed: int
) -> tuple[np.ndarray, Any]:
    history = np.zeros((len(seen.scores), ROUNDS), np.float32)
    for row, scores in zip(history, seen.history, strict=True):
        row[: len(scores)] = scores
    view = View(
        scores=jnp.asarray(seen.scores, jnp.float32),
        active=jnp.asarray(seen.active),
        history=jnp.asarray(history),
        depth=jnp.asarray([len(x) for x in seen.history], jnp.int32),
        log_prob=jnp.asarray(seen.log_prob, jnp.float32),
        lengths=jnp.asarray(seen.lengths, jnp.int32),
        round=jnp.asarray(seen.round, jnp.int32),
        entropy=jnp.asarray(seen.entropy, jnp.float32),
        hidden=jnp.asarray(np.array(seen.hidden), jnp.float32),
    )
    update = compiled(name, tuple(options.items()))
    return jax.device_get(update(view, state, jax.random.key(seed)))


def grown(before: Seen | None, rng: np.random.Generator, scores, active) -> Seen:
    """What is seen a round later, with rows of few hidden states, so that some are alike."""
    N = len(scores)
    tokens = rng.integers(1, 4, N)
    log_prob, states = -rng.choice([0.5, 1.0, 2.0], N) * tokens, rng.normal(size=(3, 5))
    return Seen(
        scores,
        active,
        [[*x, y] for x, y in zip(before.history if before else [[]] * N, scores, strict=True)],
        (np.array(before.log_prob if before else 0.0) + log_prob).tolist(),
        (np.array(before.lengths if before else 0) + tokens).tolist(),
        rng.choice([0.5, 1.0], N).tolist(),
        [*states[rng.integers(0, 3, N)].astype(np.float32)],
        before.round + 1 if before else 0,
    )


@st.composite
def rounds(draw: st.DrawFn, N: int) -> list[tuple[list[float], list[bool]]]:
    """Rounds of scores of N rows, and which of them are active: at least one is."""
    last, found = draw(st.integers(0, N - 1)), []
    active = [True] * N
    for _ in range(ROUNDS):
        scores = draw(st.lists(SCORES, min_size=N, max_size=N))
        going = draw(st.lists(st.booleans(), min_size=N, max_size=N))
        active = [active[n] and (going[n] or n == last) for n in range(N)]
        found.append((scores, active))
    return found


def compared(state: Any, expected: Any) -> tuple[Any, Any]:
    """A state, and the oracle's, to be compared array by array."""
    if not isinstance(state, Confidence):
        return [state], [expected]
    past = [log_prob for log_prob, _ in expected["past"]]  # all of it
    past = past[-state.log_probs.shape[1] :]
    found = state.lowest, state.threshold, state.log_probs[:, -len(past) :]
    return found, (expected["lowest"], expected["threshold"], np.transpose(past))


@pytest.mark.parametrize(("name", "options", "N"), CHOICES, ids=str)
def test_the_choice_is_the_plain_one(name: str, options: dict[str, Any], N: int):
    strategy = make_strategy(name, **options)
    strategy.check(N)
    clear = []

    @hypothesis.settings(max_examples=45)
    @hypothesis.given(rounds(N), st.integers(0, 2**32 - 1))
    def check(told, seed):
        state, before, seen = strategy.init(N), begun(strategy, N), None
        rng = np.random.default_rng(seed)
        for scores, active in told:
            seen = grown(seen, rng, scores, active)
            found, state = update(name, options, seen, state, seed)
            sound(name, options, seen, found)
            try:
                expected, before = choose(strategy, seen, before, jax.random.key(seed))
            except UnclearError:
                clear.append(False)
                return
            clear.append(True)
            assert found[active].tolist() == np.array(expected)[active].tolist()
            for one, other in zip(*compared(state, before), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

    check()
    assert np.mean(clear) > 0.9
    assert len(clear) > 100


def sound(name: str, options: dict[str, Any], seen: Seen, found: np.ndarray) -> None:
    """Rows go on from active ones, and by REBASE as often as is fair."""
    on = np.flatnonzero(seen.active)
    if STRATEGIES.get(name, Strategy).stops_rows:
        on = on[found[on] != STOP]
    counts = np.bincount(found[on], minlength=len(found))
    assert np.isin(found[on], on).all()
    assert counts.sum() == len(on) > 0
    if name == "rebase":
        weights = np.exp(np.array(seen.scores)[on] / options.get("temperature", 0.2))
        fair = len(on) * weights / weights.sum()
        assert np.abs(counts[on] - fair).max() < 1 + 1e-5


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Rows 0 and 5 are finished; of the rest, 2 and 4 tie for the best.
        ("beam", {"width": 2}, [0, 2, 2, 4, 4, 5]),
        ("beam", {"width": 6}, [0, 2, 2, 2, 2, 5]),
        ("beam", {"width": 1}, [0, 2, 4, 3, 1, 5]),
        ("dvts", {"width": 2}, [0, 1, 2, 2, 4, 5]),
        ("dvts", {"width": 3}, [0, 2, 2, 4, 4, 5]),
        ("rebase", {"temperature": 10.0}, [0, 1, 2, 3, 4, 5]),
        ("rebase", {"temperature": 0.01}, [0, 2, 2, 4, 4, 5]),
    ],
    ids=str,
)
def test_ties_go_to_the_first(name: str, options: dict[str, Any], expected: list[int]):
    scores = [1.0, 0.25, 0.75, 0.5, 0.75, 0.75]
    active = [False, True, True, True, True, False]
    found = select(name, options, scores, active)
    assert found[1:5].tolist() == expected[1:5]


def test_an_odd_place_of_rebase_goes_to_the_first_of_equals():
    found = select("rebase", {}, [0.5, 0.5, 0.5, 0.0, 0.5], [True, True, True, True, True])
    # Shares are 1.23 of four rows and 0.10 of the other: the place left over is row 0's.
    assert found.tolist() == [0, 0, 1, 2, 4]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_particles_are_drawn_in_proportion_to_their_odds(temperature: float):
    scores = np.array([0.2, 0.9, 0.5, 0.0, 0.7, 0.4], np.float32)
    active = np.array([True, False, True, True, True, True])
    strategy = make_strategy("particles", temperature=temperature)
    keys = jax.random.split(jax.random.key(7), 2000)
    drawn = np.asarray(jax.jit(jax.vmap(strategy.select, (None, None, 0)))(scores, active, keys))
    chance = np.clip(scores.astype(np.float64), 1e-6, 1)
    odds = np.where(active, chance / (1 - chance), 0) ** (1 / temperature)
    expected = drawn.size * odds / odds.sum()
    counts = np.bincount(drawn.ravel(), minlength=6)
    assert counts[1] == 0
    likely = expected > 5
    misfit = (np.square(counts - expected)[likely] / expected[likely]).sum()
    assert misfit < 20  # chi-square with at most 4 degrees: 0.0005
    # Rows draw for themselves: all agree as often as independent draws do.
    pairs = (drawn[:, 0] == drawn[:, 5]).mean()
    assert pairs == pytest.approx(np.square(odds / odds.sum()).sum(), abs=0.05)


def test_systematic_draws_round_a_share_up_or_down():
    scores = np.array([0.2, 0.9, 0.5, 0.0, 0.7, 0.4], np.float32)
    chance = np.clip(scores.astype(np.float64), 1e-6, 1)
    odds = chance / (1 - chance)
    for seed in range(20):
        found = select("smc", {"threshold": 1.0}, scores, np.ones(6, bool), seed)
        counts = np.bincount(found, minlength=6)
        assert np.abs(counts - 6 * odds / odds.sum()).max() < 1 + 1e-5


def test_particles_survive_certainty():
    """Scores of exactly 0 and 1 have no odds."""
    for name, seed in itertools.product(("particles", "smc"), range(20)):
        found = select(name, {}, [0.0, 1.0, 0.0, 1.0, 0.5, 1.0], [True] * 5 + [False], seed)
        assert np.isin(found[:5], (1, 3)).all()
        found = select(name, {}, [0.0, 0.0, 1.0], [True, True, False], seed)
        assert np.isin(found[:2], (0, 1)).all()


def test_best_of_n_goes_on_as_it_is():
    strategy = make_strategy("best_of_n")
    assert not strategy.stops_at_steps
    assert select("best_of_n", {}, [0.5, 1.0, 0.0], [True, False, True]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mcts", {}, "search.strategy: 'mcts' is unknown; choose best_of_n, beam, dvts, partic"),
        ("beam", {"breadth": 4}, "search.options.breadth: beam has no such option; it has width"),
        ("best_of_n", {"width": 4}, "best_of_n has no such option; it has none"),
        ("no.such.module:Beam", {}, "'no.such.module:Beam' cannot be imported"),
        ("tests.search.own_strategy:Keep", {}, "'tests.search.own_strategy:Keep' cannot be impo"),
        ("tests.search.own_strategy:KeepFirst", {"below": 1}, "no such option; it has above"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(UserError) as error:
        make_strategy(name, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["beam", "dvts", "diverse_beam"])
@pytest.mark.parametrize(
    ("width", "N", "message"),
    [
        (3, 8, "width=3 (M) does not divide sampling.n=8; choose one of 1, 2, 4, 8, or 0 for √N"),
        (16, 8, "width=16 (M) is more than sampling.n=8; choose at most 8"),
        (-2, 8, "width=-2 (M) does not divide"),
        (0, 8, "width=0 means √N, but sampling.n=8 is no square; choose sampling.n=4"),
    ],
)
def test_widths_that_do_not_fit_are_refused(name: str, width: int, N: int, message: str):
    with pytest.raises(UserError) as error:
        make_strategy(name, width=width).check(N)
    # The field of N may be called by either of its names.
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smc", {"threshold": 1.5}, "search.options.threshold is 1.5; it must lie in 0 to 1"),
        ("smc", {"threshold": float("nan")}, "search.options.threshold is nan"),
        ("diverse_beam", {"penalty": -0.1}, "search.options.penalty is -0.1; it must be 0 or more"),
        ("deepconf", {"window": 0}, "search.options.window is 0; it must be at least 1 step"),
        ("deepconf", {"warmup": 0}, "search.options.warmup is 0; it must be at least 1 step"),
        ("deepconf", {"keep": 0.0}, "search.options.keep is 0.0; it must be more than 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        make_strategy(name, **options).check(4)


@pytest.mark.parametrize("name", ["rebase", "particles", "smc"])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_that_are_not_positive_are_refused(name: str, temperature: float):
    with pytest.raises(UserError, match="search.options.temperature is .*; it must be more than 0"):
        make_strategy(name, temperature=temperature).check(4)


def test_strategies_by_name_are_equal_by_value():
    """They are static arguments of compiled functions."""
    for name in STRATEGIES:
        assert make_strategy(name) == make_strategy(name)
        assert hash(make_strategy(name)) == hash(make_strategy(name))


def test_the_name_of_a_strategy_makes_it():
    for name in (*STRATEGIES, "tests.search.own_strategy:KeepFirst"):
        assert name_of(make_strategy(name)) == name


def test_a_strategy_of_ones_own_searches():
    strategy = make_strategy("tests.search.own_strategy:KeepFirst", above=0.6)
    assert strategy == KeepFirst(0.6)
    plan = make_plan("tests.search.own_strategy:KeepFirst", {"above": 0.6})
    (outcome,) = run(make_search(tiny_generator(SHALLOW), Grader(), plan), [([1, 2], 5)])
    trace, going = outcome.trace, np.ones(4, bool)
    selections = 0
    for r in range(len(trace.parents) - 1):
        going = trace.starts[r + 1] < trace.ends[r + 1]
        if going.any():
            good = going & (trace.scores[r] > 0.6)
            first = good.argmax() if good.any() else going.argmax()
            assert (trace.parents[r][going] == first).all()
            assert (trace.parents[r][~going] == np.flatnonzero(~going)).all()
            selections += 1
    assert selections > 1


@pytest.mark.parametrize("what", ["one row", "mask", "scores", "fewer"])
def test_what_is_no_row_for_each_row_is_refused(what: str):
    """One row would be taken for another question's, and a mask for rows 0 and 1."""
    plan = make_plan("tests.search.own_strategy:Returns", {"what": what})
    with pytest.raises(UserError, match=r"search.strategy: Returns.select must return 4 row numb"):
        make_search(tiny_generator(SHALLOW), Grader(), plan)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "no pair",
            "Holds.update must return a pair, the rows and the state, not ShapeDtypeStruct",
        ),
        (
            "counts",
            "Holds.update must return a state like that of init, which is {seen: float32[2]",
        ),
        ("wide", "which is {seen: float32[2]}, not {seen: float32[3]}"),
        ("other", "which is {seen: float32[2]}, not (float32[2],)"),
        (
            "few rows",
            "Holds.init must return arrays of 4 rows, since state_follows_rows is set, not",
        ),
        ("text", "Holds.init: TypeError"),
        ("hidden", "Holds.update: AttributeError: 'NoneType' object has no attribute 'argmax'"),
        ("stops", "Holds.update returned row -1 of 4"),
        ("later", "Holds.update returned row 4 of 4"),
    ],
)
def test_a_state_that_does_not_stay_as_it_is_is_refused(what: str, message: str):
    """And what else `update` may do wrong: before anything is compiled for a search."""
    plan = make_plan("tests.search.own_strategy:Holds", {"what": what})
    with pytest.raises(UserError) as error:
        make_search(tiny_generator(SHALLOW), Grader(), plan)
    assert f"search.strategy: {message}" in str(error.value) or message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_strategy_that_is_not_frozen_is_refused():
    with pytest.raises(UserError, match="own_strategy:Thawed' must be a frozen dataclass"):
        make_strategy("tests.search.own_strategy:Thawed")
