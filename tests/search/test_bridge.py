"""PRMs with a format: in XLA and over the bridge, against a reader of the texts."""

import dataclasses
import string
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models import reading
from tests.sampling.oracle import TINY, tiny_generator
from tests.search.toy import SHALLOW, make_plan, make_search, marked_prm, run_shown
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.search import kernel
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.sharding.mesh import make_mesh
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.flipped import Flipped
from ttc_jax.verifiers.formats import PRMFormat
from ttc_jax.verifiers.prm import ProcessRewardModel
from ttc_jax.verifiers.question import question_scores

LETTERS = string.ascii_lowercase[:22]
PIECES = [
    *LETTERS,
    " ",
    "#",
    "|",
    ".",
    "\n",
    "\n\n",
    ".\n",
    "a\n",
    "b\n",
    " \n",
    "c\n",
    "def",
    "ghijk",
]
TOKENIZER = CharTokenizer(PIECES)
OTHER = CharTokenizer([*reversed(LETTERS), "\n", "#", "|", ".", " "])  # knows no pieces
FORMAT = PRMFormat("q {question}\n", mark="#", between="|\n", head=("score",))
TEXTS = ("ab", "abcdefgh", "d", "ce f", "hhh", "b a")
PLANS = {
    "best of N": make_plan("best_of_n", candidates=4),
    "beam, lookahead": make_plan("beam", {"width": 2}, lookahead=1, rounds=4),
}


@pytest.fixture(scope="module", autouse=True)
def large_groups():
    """Turns of more questions than so few would take together, so that some seats stay empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "together", lambda questions, plan: min(questions, 3))
        yield


def taught(tokenizer: CharTokenizer) -> ProcessRewardModel:
    prm = nnx.clone(marked_prm(SHALLOW))
    prm.format, prm.tokenizer = FORMAT, tokenizer
    return prm


def search_of(
    prm, plan: Plan, *, delimiter: str = "\n", bridged: bool | None = None, **changes
) -> Search:
    adapter = PRMAdapter(prm, TOKENIZER, delimiter, bridged)
    options = {
        "end_tokens": TOKENIZER.eos_ids,
        "delimiter": Delimiter.of(TOKENIZER, delimiter),
        "adapter": adapter,
        "batch": 3,
    }
    return make_search(tiny_generator(SHALLOW), prm, plan, **options | changes)


def outcomes_of(search: Search, order: Sequence[int] = (0, 1, 2, 3, 4, 5)) -> list[SearchResult]:
    prompts = [TOKENIZER.encode(TEXTS[i]) for i in order]
    return run_shown(search, [TEXTS[i] for i in order], prompts, list(order))


def read(tokens: list[int], room: int, delimiter: str = "\n") -> tuple[list[int], dict[int, int]]:
    """An answer as the PRM is shown it, and where it reads the score of which step."""
    shown: list[int] = []
    places, text, behind_one = {}, "", False
    pieces = [TOKENIZER.decode([token]) for token in tokens]
    closed, ended, taken = (
        how(pieces, delimiter) for how in (reading.closed, reading.ended, reading.taken)
    )
    for i, piece in enumerate(pieces):
        if taken[i] < 0:  # no piece goes on behind a delimiter that it completes
            piece = ""
        elif taken[i] or delimiter in piece:
            piece = (piece[: -taken[i]] if taken[i] else piece.partition(delimiter)[0]).rstrip()
        text += piece
        last = i == len(tokens) - 1 and not closed[i]
        if ended[i] or (last and not (behind_one and tokens[i] in TOKENIZER.eos_ids)):
            shown += OTHER.encode(text + "#|\n")
            places[i], text = len(shown) - 3, ""
        behind_one = closed[i]
    return shown[:room], {i: place for i, place in places.items() if place < room}


@pytest.mark.parametrize(
    ("name", "delimiter"), [("best of N", "\n"), ("beam, lookahead", "\n\n")], ids=str
)
def test_the_bridge_gives_what_xla_gives(name: str, delimiter: str):
    prm, plan = taught(TOKENIZER), PLANS[name]
    inside, over = (
        search_of(prm, plan, delimiter=delimiter, bridged=bridged) for bridged in (None, True)
    )
    assert not inside.engine.layout.bridged
    assert over.engine.layout.bridged
    steps = 0
    for one, other in zip(outcomes_of(inside), outcomes_of(over), strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.trace.parents, other.trace.parents)
        np.testing.assert_array_equal(one.scored, other.scored)
        np.testing.assert_allclose(one.step_scores, other.step_scores, atol=1e-5)
        assert one.ledger == other.ledger
        assert one.question_score is None
        steps += int(one.scored.sum())
    assert steps > {"\n": 30, "\n\n": 20}[delimiter]  # blank lines are rarer
    assert (inside.compilations, over.compilations) == (1, 1)


@pytest.fixture(scope="module")
def other() -> Search:
    """Over the bridge to a tokenizer for which there is too little room at times."""
    return search_of(taught(OTHER), PLANS["best of N"])


def test_steps_are_scored_as_they_read_in_the_other_tokenizer(other):
    prm, compared = taught(OTHER), 0
    assert other.engine.layout.bridged
    room = other.engine.layout.most_shown
    for text, outcome in zip(TEXTS, outcomes_of(other), strict=True):
        prompt = OTHER.encode(f"q {text}\n")
        for n, length in enumerate(outcome.lengths):
            shown, places = read(outcome.tokens[n][:length].tolist(), room)
            padded = np.zeros((1, 128), np.int32)
            padded[0, : len(prompt) + len(shown)] = prompt + shown
            logits = prm(jnp.asarray(padded), jnp.array([len(prompt)]))
            scores = 1 / (1 + np.exp(-np.asarray(logits)))
            for i in np.flatnonzero(outcome.scored[n]).tolist():
                found = outcome.step_scores[n][i]
                if i in places:
                    assert found == pytest.approx(scores[0, len(prompt) + places[i]], abs=1e-5)
                    compared += 1
                else:
                    assert found == 0
    assert compared > 30


def test_company_and_refill_change_nothing_over_the_bridge(other):
    expected = outcomes_of(other)
    order = [4, 1, 5, 0, 2, 3]
    for refill, segment in ((True, 1), (False, 7)):
        other.execution = dataclasses.replace(other.execution, refill=refill, segment=segment)
        with jax.transfer_guard("disallow"):  # the host reads and writes at no hidden time
            outcomes = outcomes_of(other, order)
        for i, found in zip(order, outcomes, strict=True):
            for name in ("tokens", "step_scores", "scored"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected[i], name))
    assert other.compilations == 1


@pytest.mark.parametrize("own", [TOKENIZER, OTHER], ids=["in XLA", "over the bridge"])
def test_a_mesh_changes_nothing(own: CharTokenizer):
    """Two questions on each of four devices, for which the host waits together."""
    prm, plan = taught(own), PLANS["best of N"]
    over = search_of(prm, plan, mesh=make_mesh(4, 1, jax.devices()[:4]), batch=8)
    alone = outcomes_of(search_of(prm, plan, batch=2))
    for one, found in zip(alone, outcomes_of(over), strict=True):
        np.testing.assert_array_equal(one.tokens, found.tokens)
        np.testing.assert_array_equal(one.trace.parents, found.trace.parents)
        np.testing.assert_array_equal(one.step_scores, found.step_scores)


def test_what_cannot_be(other):
    prm = taught(TOKENIZER)
    plan = PLANS["best of N"]
    with pytest.raises(UserError, match=r"search.revisions is 2: a PRM that was trained elsewhere"):
        search_of(prm, dataclasses.replace(plan, revisions=2))
    with pytest.raises(UserError, match="needs a PRMAdapter"):
        list(search_of(prm, plan, adapter=None).run([[5]], [0]))
    with pytest.raises(ValueError, match="and only that, is given what is shown"):
        list(other.run([[5]], [0]))
    with pytest.raises(UserError, match="tokens more over the bridge do not fit the verifier's"):
        other.check([5], [1] * TINY.context)
    with pytest.raises(UserError, match="was not taught to score a question"):
        question_scores(Flipped(prm, 0.5), [[5]])
