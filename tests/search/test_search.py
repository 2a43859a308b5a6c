"""Many questions: slots, refill, compilations, refusals; and what a trace says."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.sampling.oracle import TINY, tiny_generator
from tests.search.toy import (
    BROKEN,
    DELIMITERS,
    ENDS,
    SHALLOW,
    Grader,
    assert_alike,
    delimiter,
    make_plan,
    make_search,
    marked_prm,
    random_probe,
    run,
)
from ttc_jax.errors import UserError
from ttc_jax.models.transformer import Transformer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.sampler import SHORTEST_BUCKET, Sampler, bucket
from ttc_jax.search import kernel
from ttc_jax.search.plan import Plan
from ttc_jax.search.request import Request
from ttc_jax.search.search import Failed, Search, SearchResult
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.verifier import Verifier

RNG = np.random.default_rng(4)
QUESTIONS = [
    (RNG.integers(0, TINY.vocab_size, length).tolist(), number)
    for length, number in zip(
        (1, 2, 9, 33, 5, 20, 3, 7), (11, 2**32 - 1, 0, 3, 8, 1, 77, 5), strict=True
    )
]
MARKERS = (36, 35)
PLAN = make_plan("beam", {"width": 2}, lookahead=1, max_new_tokens=20, max_step_tokens=5, rounds=6)


@pytest.fixture(scope="module", autouse=True)
def large_groups() -> Iterator[None]:
    """Turns of more questions than so few would take together, so that some seats stay empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "together", lambda questions, plan: min(questions, 3))
        yield


@pytest.fixture(scope="module")
def generator() -> Transformer:
    return tiny_generator(SHALLOW)


@pytest.fixture(scope="module")
def prm() -> ProcessRewardModel:
    return marked_prm(SHALLOW, MARKERS, -1)


@pytest.fixture(scope="module", params=[0, 5], ids=["all rows", "lanes"])
def search(request, prm) -> Search:
    return make_search(tiny_generator(), prm, PLAN, batch=3, lanes=request.param)


@pytest.fixture(scope="module")
def outcomes(search) -> list[SearchResult]:
    return run(search, QUESTIONS)


@contextmanager
def served(search: Search, *, refill: bool, segment: int) -> Iterator[None]:
    """The same compiled search under other settings, neither of which is compiled in."""
    before = search.execution
    search.execution = dataclasses.replace(before, refill=refill, segment=segment)
    yield
    search.execution = before


def assert_same(found: SearchResult, expected: SearchResult) -> None:
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_outcomes_are_worth_comparing(outcomes):
    ended = np.stack([outcome.finished for outcome in outcomes])
    assert 0.2 < ended.mean() < 1
    assert len({len(outcome.trace.parents) for outcome in outcomes}) > 1
    moved = [outcome.trace.parents != np.arange(4) for outcome in outcomes]
    assert np.concatenate(moved).mean() > 0.1
    assert any(outcome.ledger.lookahead_tokens for outcome in outcomes)


@pytest.mark.parametrize("refill", [True, False], ids=["refill", "together"])
@pytest.mark.parametrize("segment", [1, 7, 1000])
@pytest.mark.parametrize("order", [range(8), [7, 2, 5, 0, 3, 6, 1, 4]], ids=["given", "mixed"])
def test_neither_refill_nor_segment_nor_order_changes_a_question(
    search, outcomes, refill: bool, segment: int, order: Sequence[int]
):
    with served(search, refill=refill, segment=segment):
        found = run(search, [QUESTIONS[i] for i in order])
    for i, outcome in zip(order, found, strict=True):
        assert_same(outcome, outcomes[i])


@pytest.mark.parametrize("company", [[2], [2, 4], [5, 2], [0, 3, 2]], ids=str)
def test_a_question_does_not_mind_its_company(search, outcomes, company: list[int]):
    for i, found in zip(company, run(search, [QUESTIONS[i] for i in company]), strict=True):
        assert_same(found, outcomes[i])


FRONT = RNG.integers(0, TINY.vocab_size, SHORTEST_BUCKET).tolist()
LONG = [(FRONT + prompt, number) for prompt, number in QUESTIONS[2:6]]
ELSEWHERE = ([*FRONT[:-1], (FRONT[-1] + 1) % 30, *FRONT[:5]], 4)


@pytest.mark.parametrize("reads", [True, False], ids=["PRM", "probe"])
def test_a_front_is_read_once_and_changes_no_answer(generator, prm, reads: bool):
    """With a verifier that reads prompts, whole; and one that reads none."""
    verifier = prm if reads else random_probe()
    plan = dataclasses.replace(PLAN, lookahead=0)
    whole = make_search(generator, verifier, plan, batch=3)
    search = make_search(generator, verifier, plan, batch=3, prefix=FRONT)
    expected, found = run(whole, LONG), run(search, LONG)
    assert search.compilations == whole.compilations == 1
    assert any(outcome.finished.any() for outcome in expected)
    for one, other in zip(found, expected, strict=True):
        assert_alike(one, other)
    for company in ([2], [3, 2, 0]):
        for i, again in zip(company, run(search, [LONG[i] for i in company]), strict=True):
            assert_same(again, found[i])
    assert search.compilations == search.engine.programs["prefill"] == 1
    if reads:
        return
    assert_same(run(search, [LONG[0], ELSEWHERE])[0], found[0])
    assert_same(run(search, [ELSEWHERE])[0], run(whole, [ELSEWHERE])[0])
    assert search.compilations == 2
    alone = Request(FRONT, FRONT, 0)
    assert not search.engine.buckets(alone).shares_prefix  # no token is left to be read


def test_a_short_front_is_not_worth_a_program(generator):
    plan = make_plan("best_of_n", max_new_tokens=4)
    search = make_search(generator, None, plan, prefix=FRONT[1:])
    run(search, [(prompt[1:], number) for prompt, number in LONG[:1]])
    assert search.engine.programs == {"prefill": 0, "admit": 1, "segment": 1}


REVISIONS = {
    "chains": make_plan("best_of_n", revisions=6, between=(7,), max_new_tokens=8),
    "searches": make_plan("beam", {"width": 2}, revisions=2, between=(7, 8)),
}


@pytest.mark.parametrize("plan", REVISIONS.values(), ids=REVISIONS)
def test_revisions_do_not_mind_their_company(generator, plan: Plan):
    search = make_search(generator, marked_prm(SHALLOW, MARKERS), plan, batch=3)
    expected = run(search, QUESTIONS)
    order = [7, 2, 5, 0, 3, 6, 1, 4]
    for options in ({"refill": True, "segment": 5}, {"refill": False, "segment": 1}):
        with served(search, **options):
            found = run(search, [QUESTIONS[i] for i in order])
        for i, outcome in zip(order, found, strict=True):
            assert_same(outcome, expected[i])
    assert search.compilations == 1
    for outcome, (prompt, _) in zip(expected, QUESTIONS, strict=True):
        N, s = plan.candidates, plan.revisions
        assert len(outcome.tokens) == N * s == outcome.ledger.generations
        answers = outcome.tokens.reshape(N, s, -1) if plan.sequential > 1 else outcome.tokens
        assert len(np.unique(answers.reshape(N * s, -1), axis=0)) > s  # draws are new ones
        read = outcome.ledger.prefill_tokens - len(prompt) + 1
        assert 0 < read <= N * (s - 1) * plan.context


def test_revisions_that_do_not_fit_the_context_are_refused(generator):
    plan = REVISIONS["chains"]
    search = make_search(generator, None, plan)
    room = 8 + 4 * (8 + 1)
    search.check([1] * (TINY.context - room))
    with pytest.raises(UserError, match="with up to 4 earlier ones before it do not fit the gener"):
        search.check([1] * (TINY.context - room + 1))
    assert nothing_compiled(search)


def test_questions_are_given_as_they_are_done(search):
    order = [i for i, _ in search.run([p for p, _ in QUESTIONS], [n for _, n in QUESTIONS])]
    assert sorted(order) == list(range(len(QUESTIONS)))
    assert order != sorted(order)
    assert list(search.run([], [])) == []


def test_the_number_makes_the_draws(search, outcomes):
    (other,) = run(search, [(QUESTIONS[2][0], 999)])
    assert (other.tokens != outcomes[2].tokens).any()


def test_refill_fills_the_loop(search, outcomes):
    shares = []
    for refill in (True, False):
        before = dataclasses.replace(search.work)
        with served(search, refill=refill, segment=1):
            run(search, QUESTIONS)
        useful, total = search.work.useful - before.useful, search.work.total - before.total
        drawn = [outcome.ledger for outcome in outcomes]
        assert useful == sum(x.decode_tokens + x.lookahead_tokens for x in drawn)
        shares.append(useful / total)
    assert shares[1] < shares[0] <= 1


def test_one_compilation_a_bucket(generator):
    search = make_search(generator, Grader(), make_plan())
    longer = [([*QUESTIONS[3][0], *QUESTIONS[3][0], *range(i)], i) for i in (1, 20, 7)]
    run(search, QUESTIONS[:1])
    assert search.compilations == 1
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for count in (1, 3, 5, 8):
            run(search, QUESTIONS[:count])
        assert compiled == []
        assert search.compilations == 1
        run(search, [*QUESTIONS, *longer])
        assert search.compilations == 2
        assert compiled
        compiled.clear()
        run(search, longer[:1])
        run(search, [*longer, *QUESTIONS])
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert search.compilations == 2


def test_the_whole_search_hides_no_transfer(search, outcomes):
    with jax.transfer_guard("disallow"):
        found = run(search, QUESTIONS)
    for mine, other in zip(found, outcomes, strict=True):
        assert_same(mine, other)


@pytest.mark.parametrize("strategy", ["beam", "smc", "diverse_beam", "deepconf"])
def test_a_fresh_search_hides_no_transfer(generator, strategy: str):
    """Compiled and run at once, with a delimiter that is matched over the boundaries of tokens."""
    steps = delimiter(BROKEN, "\n\n")
    fresh = make_search(generator, Grader(), make_plan(strategy), delimiter=steps)
    with jax.transfer_guard("disallow"):
        found = run(fresh, QUESTIONS[:3])
        for company in ([2], [1, 0]):  # nor does a strategy's state mind who else is there
            for i, again in zip(company, run(fresh, [QUESTIONS[i] for i in company]), strict=True):
                assert_same(again, found[i])
    assert fresh.compilations == 1


def test_the_program_stays_on_the_device_and_reuses_its_state(search):
    width = bucket(33)  # the one that the search ran with: nothing is compiled again
    state = search.state(width)
    compiled = search.lower(width)["segment"].compile()
    text = compiled.as_text().lower()
    assert "while" in text
    for word in ("callback", "infeed", "outfeed", "xla_python", "send(", "recv("):
        assert word not in text
    caches = [*jax.tree.leaves(state.decode.cache), *jax.tree.leaves(state.verifier)]
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(
        x.size * x.dtype.itemsize for x in caches
    )


def test_best_of_n_draws_the_samplers_answers(generator):
    sampling = SamplingParams(temperature=0.9, top_p=0.9)
    plan = make_plan("best_of_n", sampling=sampling, max_new_tokens=30, candidates=3)
    options: dict[str, Any] = {"end_tokens": ENDS, "batch": 2, "seed": 3}
    sampler = Sampler(generator, candidates=3, max_new_tokens=30, sampling=sampling, **options)
    for verifier in (None, Grader()):
        search = make_search(generator, verifier, plan)
        found = run(search, QUESTIONS[:4])
        for first in (0, 2):
            prompts, numbers = zip(*QUESTIONS[first : first + 2], strict=True)
            samples = sampler.sample(prompts, numbers)
            for i, outcome in enumerate(found[first : first + 2]):
                np.testing.assert_array_equal(outcome.tokens, samples.tokens[i])
                np.testing.assert_array_equal(outcome.lengths, samples.lengths[i])
                np.testing.assert_array_equal(outcome.finished, samples.finished[i])
                np.testing.assert_allclose(outcome.log_prob, samples.log_prob[i], rtol=1e-5)
                assert outcome.scored.any() == (verifier is not None)
                assert outcome.ledger.decode_tokens == samples.lengths[i].sum()


# Scores, and what a trace says.


def written(outcome: SearchResult, n: int) -> list[int]:
    return outcome.tokens[n, : outcome.lengths[n]].tolist()


@pytest.mark.parametrize(
    ("strategy", "markers", "offset"),
    [("beam", MARKERS, -1), ("best_of_n", (), 0)],  # others: test_kernel
    ids=str,
)
def test_incremental_scores_are_those_of_reading_the_text_anew(
    generator, strategy: str, markers: tuple[int, ...], offset: int
):
    """Every score that a search gave, over caches that were forked and gathered round by round."""
    prm = marked_prm(TINY, markers, offset)
    plan = make_plan(strategy, max_new_tokens=20, rounds=20)
    graph, parameters = nnx.split(prm)

    @jax.jit
    def whole(parameters, tokens, lengths):
        return jax.nn.sigmoid(nnx.merge(graph, parameters)(tokens, lengths))

    compared = moved = 0
    found = run(make_search(generator, prm, plan), QUESTIONS[:5])
    for outcome, (prompt, _) in zip(found, QUESTIONS, strict=False):
        moved += (outcome.trace.parents != np.arange(4)).sum()
        texts = np.zeros((4, 33 + 20 + 2 * 20), np.int32)
        places = []
        for n in range(4):
            text = list(prompt)
            for i, token in enumerate(written(outcome, n)):
                text.append(token)
                if outcome.scored[n, i]:
                    text.extend(markers)
                    places.append((n, i, len(text) - 1 + offset))
            texts[n, : len(text)] = text
        anew = np.asarray(whole(parameters, texts, np.full(4, len(prompt), np.int32)))
        for n, i, place in places:
            assert abs(outcome.step_scores[n, i] - anew[n, place]) <= 1e-4
            compared += 1
        assert outcome.question_score is not None
        assert abs(outcome.question_score - anew[0, len(prompt) - 1]) <= 1e-4
    assert compared > 20
    assert moved > 20 or strategy == "best_of_n"


def test_a_lineage_is_a_tree_of_the_answers(outcomes):
    """Rows go on from rows that were not finished; a finished row stays as it is, for good."""
    for outcome in outcomes:
        trace = outcome.trace
        R, N = trace.parents.shape
        assert len(outcome.tokens) == N == 4
        assert PLAN.rounds >= R
        assert not trace.starts[0].any()
        for r in range(R):
            wrote = trace.ends[r] > trace.starts[r]
            assert wrote.any()
            assert (trace.ends[r] - trace.starts[r] <= PLAN.step).all()
            assert (trace.lookahead_ends[r] >= trace.ends[r]).all()
            np.testing.assert_array_equal(trace.verifier_tokens[r] > 0, wrote)
            assert not trace.lookahead_verifier_tokens[r][~wrote].any()
            if r + 1 == R:
                np.testing.assert_array_equal(trace.ends[r], outcome.lengths)
                continue
            goes_on = trace.ends[r + 1] > trace.starts[r + 1]
            parents = trace.parents[r]
            assert goes_on[parents[goes_on]].all()
            assert (parents[~goes_on] == np.flatnonzero(~goes_on)).all()
            np.testing.assert_array_equal(trace.starts[r + 1], trace.ends[r][parents])
            # Who rests stays: slot, text and score.
            assert not (goes_on & ~wrote).any()
            for later in range(r + 1, R):
                for name in ("starts", "ends", "lookahead_ends"):
                    value = getattr(trace, name)[later][~goes_on]
                    np.testing.assert_array_equal(value, outcome.lengths[~goes_on])
                kept = trace.scores[later][~goes_on]
                np.testing.assert_array_equal(kept, trace.scores[r][~goes_on])
        # An answer is what its ancestors wrote, one after the other.
        for n in range(N):
            text: list[int] = []
            at = n
            for r in reversed(range(R)):
                at = at if r + 1 == R else trace.parents[r][at]
                size = trace.ends[r][at] - trace.starts[r][at]
                text = trace.tokens[r][at][:size].tolist() + text
            assert text == written(outcome, n)


def test_rows_that_went_on_from_one_row_differ_afterwards(outcomes):
    """A copy draws numbers of its own."""
    same = copies = 0
    for outcome in outcomes:
        trace = outcome.trace
        for r in range(len(trace.parents) - 1):
            for n, parent in enumerate(trace.parents[r].tolist()):
                if parent != n and trace.parents[r][parent] == parent:
                    copies += 1
                    same += (trace.tokens[r + 1][n] == trace.tokens[r + 1][parent]).all()
    assert copies > 5
    assert same < copies / 3


TWO_ROUNDS = make_plan(rounds=2, max_step_tokens=3)


@pytest.fixture(scope="module")
def short(generator) -> Search:
    """A question at a time, of two rounds."""
    return make_search(generator, Grader(), TWO_ROUNDS, batch=1)


def test_the_rounds_are_limited(short):
    for outcome in run(short, QUESTIONS[:4]):
        assert len(outcome.trace.parents) <= 2
        assert (outcome.lengths <= 6).all()


# Refusals.


@contextmanager
def judged_by(search: Search, generator: Transformer, verifier: Verifier) -> Iterator[None]:
    """The same compiled search with a verifier of other weights."""
    before = search.engine.parameters
    search.engine.parameters = nnx.split((generator, verifier))[1]
    yield
    search.engine.parameters = before


def failure(found: Iterator[tuple[int, SearchResult]]) -> int:
    """The index of the prompt with which the search fails next."""
    with pytest.raises(Failed, match="score is NaN") as error:
        next(found)
    assert str(error.value).startswith(f"prompt {error.value.index}: ")
    return error.value.index


def test_a_prm_whose_weights_are_nan_stops_the_search(search, prm):
    broken = nnx.clone(prm)
    broken.score[...] = broken.score[...].at[0].set(jnp.nan)
    with judged_by(search, tiny_generator(), broken):
        assert failure(search.run([QUESTIONS[4][0]], [1])) == 0


@pytest.mark.parametrize("strategy", ["best_of_n", "beam"])
def test_the_question_whose_score_is_nan_is_named(generator, short, strategy: str):
    """One grade is NaN: of a token that ends a step of the second question, not of the first."""
    verifier = Grader()
    best_of_n = make_search(generator, verifier, make_plan("best_of_n"), batch=1)
    search = short if strategy == "beam" else best_of_n
    questions = QUESTIONS[4:6]
    healthy, ill = run(search, questions)
    (bad, *_) = sorted(set(step_tokens(ill)) - set(healthy.trace.tokens.ravel().tolist()))
    verifier.table[...] = verifier.table[...].at[bad].set(jnp.nan)
    with judged_by(search, generator, verifier):
        found = search.run([prompt for prompt, _ in questions], [n for _, n in questions])
        assert_same(next(found)[1], healthy)
        assert failure(found) == 1


def step_tokens(outcome: SearchResult) -> list[int]:
    """The last token of each row's last step."""
    return [written(outcome, n)[np.flatnonzero(outcome.scored[n])[-1]] for n in range(4)]


def nothing_compiled(search: Search) -> bool:
    return search.compilations == 0 and not any(search.engine.programs.values())


def refused(generator, verifier: Verifier | None, plan: Plan, **options) -> str:
    with pytest.raises(UserError) as error:
        make_search(generator, verifier, plan, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"candidates": 0}, {}, "sampling.n is 0; it must be at least 1"),
        ({"candidates": 10, "options": {"width": 4}}, {}, "(M) does not divide"),
        ({"candidates": 2, "options": {"width": 4}}, {}, "(M) is more than"),
        ({"options": {"width": -1}}, {}, "(M) does not divide"),
        ({"candidates": 8, "options": {"width": 0}}, {}, "is no square"),
        ({"strategy": "dvts", "candidates": 6}, {}, "(M) does not divide"),
        ({"strategy": "rebase", "options": {"temperature": 0.0}}, {}, "must be more than 0"),
        ({"lookahead": -1}, {}, "search.lookahead is -1; it must be 0 (none) or more"),
        ({"strategy": "best_of_n", "lookahead": 1}, {}, "search.lookahead needs a strategy that"),
        ({"max_new_tokens": 0}, {}, "sampling.max_new_tokens is 0; it must be at least 1"),
        ({"max_step_tokens": 0}, {}, "search.max_step_tokens is 0; it must be at least 1"),
        ({"rounds": 0}, {}, "search.rounds is 0; it must be at least 1"),
        ({"revisions": 0}, {}, "search.revisions is 0; it must be at least 1"),
        ({}, {"batch": 0}, "execution.batch is 0; it must be at least 1"),
        ({}, {"segment": 0}, "execution.segment is 0; it must be at least 1"),
    ],
    ids=str,
)
def test_budgets_that_cannot_be_are_refused(generator, prm, changes, options, message: str):
    assert message in refused(generator, prm, make_plan(**changes), **options)


@pytest.mark.parametrize("strategy", ["beam", "dvts", "rebase", "particles", "smc", "deepconf"])
def test_a_strategy_that_selects_needs_a_verifier(generator, strategy: str):
    assert "needs a verifier: set verifier.path" in refused(generator, None, make_plan(strategy))


def test_a_verifier_of_another_vocabulary_is_refused(generator):
    message = refused(generator, Grader(TINY.vocab_size + 1), make_plan())
    assert "verifier.path: its vocabulary has 38 tokens, the generator's 37" in message


def test_a_probe_of_another_generator_is_refused(generator):
    message = refused(generator, random_probe(TINY.width + 1), make_plan())
    assert f"verifier.path: the probe reads hidden states of width {TINY.width + 1}" in message


def test_prompts_that_do_not_fit_are_refused_before_anything_is_compiled(generator):
    search = make_search(generator, Grader(), make_plan())
    longest = TINY.context - 14
    search.check([1] * longest)
    for prompt, message in (
        ([1] * (longest + 1), r"generator's context of 256 tokens; lower sampling.max_new_tokens"),
        ([1] * TINY.context, r"generator's context of 256 tokens; shorten the prompt"),
        ([], "a prompt is empty"),
        ([1, TINY.vocab_size], f"a prompt holds the token {TINY.vocab_size}, which the model does"),
        ([-1], "a prompt holds the token -1"),
    ):
        with pytest.raises(UserError, match=message):
            run(search, [QUESTIONS[0], (prompt, 1)])
    assert nothing_compiled(search)


@pytest.mark.parametrize(
    ("markers", "room", "advice"),
    [
        ((), 14, "verifier's context of 60 tokens; lower sampling.max_new_tokens"),
        ((36,), 14 + 5, "and 5 step markers .* lower sampling.max_new_tokens or search.rounds"),
    ],
)
def test_a_verifiers_context_that_is_too_small_is_refused(
    generator, markers: tuple[int, ...], room: int, advice: str
):
    prm = marked_prm(dataclasses.replace(SHALLOW, context=60), markers)
    search = make_search(generator, prm, make_plan())
    search.check([1] * (60 - room))
    with pytest.raises(UserError, match=advice):
        run(search, [QUESTIONS[0], ([1] * (61 - room), 1)])
    assert nothing_compiled(search)


def test_delimiters_and_ends_of_the_toy_overlap():
    """So that a token which is both is met."""
    assert set(DELIMITERS) & set(ENDS)


def test_lanes_are_no_more_than_rows(generator, short):
    """As where a batch is cut to the questions that are left."""
    questions = [([1, 2], 5), ([3], 6)]
    many = make_search(generator, Grader(), TWO_ROUNDS, batch=1, lanes=48)
    for one, other in zip(run(many, questions), run(short, questions), strict=True):
        assert_alike(one, other)
