"""The tree of a search: paths are answers, and what was pruned is still there."""

import numpy as np
import pytest

from tests.sampling.oracle import TINY, tiny_generator
from tests.search.test_search import MARKERS, QUESTIONS
from tests.search.toy import SHALLOW, delimiter, make_plan, make_search, marked_prm, run
from ttc_jax.experiments.tree import tree
from ttc_jax.results.store import Node
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import SearchResult
from ttc_jax.search.state import SearchTrace


class Letters:
    """A letter a token, but 0, an end token, has no text, and odd ones are half a character."""

    def __init__(self, halves: bool = False):
        self.halves = halves

    def decode(self, tokens) -> str:
        text = "".join(chr(0x100 + token) for token in tokens if token)
        if self.halves and tokens and tokens[-1] % 2:
            return text[:-1] + "\N{REPLACEMENT CHARACTER}"
        return text


PLANS = {
    "beam": make_plan("beam", {"width": 2}, lookahead=1),
    "particles": make_plan("particles", candidates=6),
    "stopped rows": make_plan("deepconf", {"warmup": 1, "keep": 0.5}, candidates=6),
    "best_of_n": make_plan("best_of_n", candidates=3),
    "chains": make_plan("best_of_n", revisions=3, between=(7,), max_new_tokens=8),
    "searches": make_plan("beam", {"width": 2}, revisions=2, between=(7, 8)),
}


@pytest.fixture(scope="module", params=PLANS, ids=str)
def found(request) -> tuple[Plan, list[SearchResult]]:
    plan = PLANS[request.param]
    search = make_search(tiny_generator(SHALLOW), marked_prm(SHALLOW, MARKERS), plan, batch=3)
    return plan, run(search, QUESTIONS[:3])


def grow(outcome: SearchResult, plan: Plan, tokenizer: Letters | None = None) -> tuple[Node, ...]:
    letters = tokenizer or Letters()
    return tree(outcome, plan, letters, delimiter())  # type: ignore[arg-type]


def path(nodes: tuple[Node, ...], index: int) -> list[Node]:
    before = path(nodes, nodes[index].parent) if nodes[index].parent >= 0 else []
    return [*before, nodes[index]]


@pytest.mark.parametrize("halves", [False, True], ids=["characters", "halves"])
def test_paths_are_answers_with_their_step_scores(found, halves: bool):
    plan, outcomes = found
    letters = Letters(halves)
    for outcome in outcomes:
        nodes = grow(outcome, plan, letters)
        ends = {node.candidate: i for i, node in enumerate(nodes) if node.candidate is not None}
        assert sorted(ends) == list(range(len(outcome.tokens)))
        for n, (tokens, length) in enumerate(zip(outcome.tokens, outcome.lengths, strict=True)):
            steps = path(nodes, ends[n])
            assert "".join(node.text for node in steps) == letters.decode(tokens[:length].tolist())
            scores = [node.score for node in steps if node.score is not None]
            told = outcome.scores_of(n)
            # A step without text, which is none, may still have been written in a round.
            assert list(dict.fromkeys(scores)) == list(dict.fromkeys(told))


def test_rows_that_went_on_from_others_are_kept_once(found):
    plan, outcomes = found
    pruned = shared = 0
    for outcome in outcomes:
        nodes = grow(outcome, plan)
        line = outcome.trace
        parents = [node.parent for node in nodes]
        assert all(parent < i for i, parent in enumerate(parents))
        if plan.strategy.stops_at_steps:
            assert len(nodes) == (line.ends > line.starts).sum()
            shared += len(parents) - len(set(parents))
            pruned += sum(
                node.candidate is None and i not in parents for i, node in enumerate(nodes)
            )
        else:
            assert max(np.bincount([p for p in parents if p >= 0], minlength=1)) <= 1
        begins = {node.round for node in nodes if node.parent < 0}
        assert len(begins) == plan.revisions
    assert (shared > 0) == plan.strategy.stops_at_steps
    own = [outcome.trace.parents == np.arange(plan.candidates) for outcome in outcomes]
    assert (pruned > 0) != np.concatenate(own).all()


def test_a_tree_by_hand():
    """Round 0: ab, ac. Row 1 goes on from row 0. Round 1: row 0 writes d, row 1 writes e."""
    zero = np.zeros((2, 2), np.int32)
    trace = SearchTrace(
        tokens=np.array([[[10, 11], [10, 12]], [[13, 0], [14, 0]]]),  # type: ignore[arg-type]
        parents=np.array([[0, 0], [0, 1]]),  # type: ignore[arg-type]
        scores=np.array([[0.5, 0.25], [0.75, 0.125]]),  # type: ignore[arg-type]
        starts=np.array([[0, 0], [2, 2]]),  # type: ignore[arg-type]
        ends=np.array([[2, 2], [3, 3]]),  # type: ignore[arg-type]
        **dict.fromkeys(
            (
                "lookahead_ends",
                "verifier_tokens",
                "lookahead_verifier_tokens",
                "answers",
                "contexts",
            ),
            zero,
        ),  # type: ignore
    )
    outcome: SearchResult = SearchResult(
        tokens=np.array([[10, 11, 13], [10, 11, 14]]),
        lengths=np.array([3, 3]),
        log_prob=np.zeros(2),
        finished=np.array([True, True]),
        step_scores=np.zeros((2, 3)),
        scored=np.array([[False, True, True]] * 2),
        trace=trace,
        ledger=None,  # type: ignore[arg-type]
        question_score=None,
    )
    plan = make_plan("beam", {"width": 2}, candidates=2)
    letter = [chr(0x100 + i) for i in range(TINY.vocab_size)]
    a, b, c, d, e = (letter[i] for i in range(10, 15))
    assert grow(outcome, plan) == (
        Node(-1, 0, a + b, 0.5, None),
        Node(-1, 0, a + c, 0.25, None),
        Node(0, 1, d, 0.75, 0),
        Node(0, 1, e, 0.125, 1),
    )
    unscored = outcome._replace(scored=np.zeros((2, 3), bool))
    assert {node.score for node in grow(unscored, plan)} == {None}
