"""The choice of a judge among candidates: orders, what is read of its texts, and what it costs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.selector import Selector
from ttc_jax.experiments.solution import elect
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.store import Candidate, Choice, Record, ResultsStore
from ttc_jax.results.summary import count_candidates, summarise
from ttc_jax.tasks import load_task
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.judge import Verdict
from ttc_jax.verifiers.judge_format import JudgeFormat

PICK = JudgeFormat("{question}?\n{answers}", answer="{number}: {solution}\n", chat=False)
MERGE = dataclasses.replace(PICK, merges=True)
TASK = load_task("gsm8k")
QUESTION = Question("q", "1+2", "3")
TOKENIZER = CharTokenizer("<>abcdefgh0123456789")
COST = Ledger(verifier_tokens=10, verifier_flops=100)


class Told:
    """Stands for a language model: `tell` says what it writes about each text."""

    def __init__(self, form: JudgeFormat, tell: Callable[[str], str | None], batch: int = 1):
        self.form, self.batch, self._tell = form, batch, tell
        self.asked: list[list[str]] = []

    def verdicts(self, texts: Sequence[str]) -> list[Verdict]:
        self.asked.append(list(texts))
        return [Verdict(text=self._tell(text), finished=True, cost=COST) for text in texts]


def candidate(answer: str | None, score: float | None = None, **changes: Any) -> Candidate:
    scores = () if score is None else (score,)
    text = f"so {answer}"
    return Candidate((), text, True, -1.0, scores, answer, answer == "3", **changes)


def record(*candidates: Candidate, name: str = "q", seed: int = 0) -> Record:
    ledger = Ledger(generations=len(candidates), verifier_tokens=1)
    return Record(name, "best_of_n", len(candidates), seed, candidates, ledger)


def choice_of(judge: Told, found: Record) -> Choice:
    selector = Selector(cast(Any, judge), TASK, TOKENIZER)
    [chosen] = selector.choose([found], {found.question: QUESTION})
    assert chosen.candidates == found.candidates
    assert chosen.choice is not None
    asked = [text for texts in judge.asked for text in texts]
    assert len(chosen.choice.texts) == len(asked)
    cost = sum([COST] * len(asked), found.ledger)
    assert chosen.ledger == cost
    return chosen.choice


def place_of(text: str, solution: str) -> str:
    """The number that an answer is shown under."""
    [number] = [line[0] for line in text.splitlines() if line.endswith(f": {solution}")]
    return number


MIXED = record(candidate("7"), candidate("3"), candidate(None), candidate("7"), candidate("5"))


def test_the_candidate_is_picked_that_the_number_names():
    judge = Told(PICK, lambda text: f"It is number {place_of(text, 'so 3')}, of 4.")
    choice = choice_of(judge, MIXED)
    assert choice.chosen == MIXED.candidates[1]
    assert choice.unread == 0
    [[text]] = judge.asked
    assert text.startswith("1+2?\n1: so ")
    assert sorted(line[3:] for line in text.splitlines()[1:]) == ["so 3", "so 5", "so 7", "so 7"]


def test_orders_depend_on_question_and_seed_and_each_answer_is_once_at_each_place():
    judge = Told(dataclasses.replace(PICK, samples=4), lambda text: "1")
    choice_of(judge, MIXED)
    orders = [[line[3:] for line in text.splitlines()[1:]] for text in judge.asked[0]]
    assert orders[1] == [*orders[0][1:], orders[0][0]]
    for solution, times in (("so 3", 1), ("so 5", 1), ("so 7", 2)):
        assert all([order[n] for order in orders].count(solution) == times for n in range(4))
    firsts = set()
    for seed in range(8):
        judge = Told(PICK, lambda text: "1")
        choice_of(judge, dataclasses.replace(MIXED, seed=seed))
        again = Told(PICK, lambda text: "1")
        choice_of(again, dataclasses.replace(MIXED, seed=seed))
        assert judge.asked == again.asked
        firsts.add(judge.asked[0][0])
    assert len(firsts) > 2


def test_orders_vote_for_answers_and_the_first_wins_a_tie():
    def tell(text: str) -> str:  # whatever stands first; of four orders two show a seven there
        return "1"

    judge = Told(dataclasses.replace(PICK, samples=4), tell)
    assert choice_of(judge, MIXED).chosen.answer == "7"


@pytest.mark.parametrize("said", ["", "none of them", "0", "5", "99999999999999999999", None])
def test_a_verdict_that_cannot_be_read_is_counted_and_candidates_vote(said: str | None):
    judge = Told(dataclasses.replace(PICK, samples=3), lambda text: said)
    choice = choice_of(judge, MIXED)
    assert (choice.unread, choice.texts) == (3, (said or "",) * 3)
    assert choice.chosen.answer == "7"  # the majority
    scores = (0.1, 0.9, 0.9, 0.2, 0.3)
    scored = [
        dataclasses.replace(x, step_scores=(y,))
        for x, y in zip(MIXED.candidates, scores, strict=True)
    ]
    judge = Told(PICK, lambda text: said)
    assert choice_of(judge, record(*scored)).chosen.answer == "3"  # the weighted vote


def test_one_verdict_that_can_be_read_outweighs_those_that_cannot():
    texts = iter(("?", "2", "?"))
    judge = Told(dataclasses.replace(PICK, samples=3), lambda text: next(texts))
    choice = choice_of(judge, MIXED)
    assert choice.unread == 2
    assert choice.chosen.text == judge.asked[0][1].splitlines()[2][3:]


def test_an_answer_of_the_judges_own_is_graded():
    judge = Told(MERGE, lambda text: "1 + 2 = 3, so #### 3")
    choice = choice_of(judge, record(candidate("7"), candidate("7")))  # also where all agree
    assert (choice.chosen.answer, choice.chosen.correct, choice.unread) == ("3", True, 0)
    assert choice.chosen.text == "1 + 2 = 3, so #### 3"
    choice = choice_of(Told(MERGE, lambda text: "I cannot tell."), MIXED)
    assert (choice.chosen.answer, choice.unread) == ("7", 1)


def test_it_is_asked_only_where_there_is_a_choice():
    for found in (
        record(candidate("7"), candidate(None), candidate("7")),
        record(candidate("3")),
        record(candidate(None), candidate(None)),
    ):
        judge = Told(PICK, lambda text: "1")
        choice = choice_of(judge, found)
        assert judge.asked == [[]]
        assert choice == Choice(found.candidates[0], (), 0)


def test_the_best_scored_are_shown_without_their_thoughts():
    tokens = tuple(TOKENIZER.encode("<a>b"))
    thinks = candidate("5", 0.8, thought=3)
    thinks = dataclasses.replace(thinks, tokens=tokens, text="<a>b")
    found = record(candidate("1", 0.7), thinks, candidate("2", 0.9), candidate("4", 0.1))
    judge = Told(dataclasses.replace(PICK, shown=2), lambda text: "1")
    choice_of(judge, found)
    [[text]] = judge.asked
    assert sorted(line[3:] for line in text.splitlines()[1:]) == ["b", "so 2"]


def test_batches_of_records_and_a_deadline():
    records = [dataclasses.replace(MIXED, question=f"q{i}") for i in range(5)]
    questions = {x.question: dataclasses.replace(QUESTION, id=x.question) for x in records}
    given = [(x, i == 1) for i, x in enumerate(records)]
    judge = Told(dataclasses.replace(PICK, samples=2), lambda text: "1", batch=4)
    selector = Selector(cast(Any, judge), TASK, TOKENIZER)
    found = list(selector.over(given, questions, math.inf))
    assert [len(texts) for texts in judge.asked] == [2, 4, 2]  # one was cut off by the deadline
    assert [x.question for x, _ in found] == [x.question for x in records]
    assert [x.choice is None for x, _ in found] == [cut for _, cut in given]
    alone = [x for one in given for x in selector.over([one], questions, math.inf)]
    texts = [x.choice.texts if x.choice else () for x, _ in found]
    assert [x.choice.texts if x.choice else () for x, _ in alone] == texts
    late = list(selector.over(given, questions, time.monotonic()))
    assert [x for x, _ in late] == records


def test_a_choice_is_stored_counted_and_decides(tmp_path: Path):
    def judged(name: str, right: bool, unread: int) -> Record:
        found = record(candidate("7"), candidate("7"), candidate("3"), name=name)
        chosen = found.candidates[2 if right else 0]
        return dataclasses.replace(found, choice=Choice(chosen, ("1", "?"), unread))

    records = [judged("q0", True, 0), judged("q1", True, 1), judged("q2", False, 0)]
    ResultsStore(tmp_path).append(records)
    assert ResultsStore(tmp_path).read() == records
    counts = count_candidates(records)
    assert (counts["verdicts"], counts["unread_verdicts"]) == (6, 1)
    summary = summarise(records, {})
    assert [*summary["accuracy"]["judge"]] == ["3"]
    assert summary["accuracy"]["judge"]["3"]["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert summary["accuracy"]["majority"]["3"]["mean"] == 0
    table = accuracy_table(records, [3], pools=(), rule="majority")
    assert table.values[:, 0, 0, 0].tolist() == [1, 1, 0]
    for wrong in (Choice(candidate("1"), (), 1), Choice(candidate("1"), cast(Any, (1,)), 0)):
        with pytest.raises(UserError, match="choice: "):
            ResultsStore(tmp_path).append([dataclasses.replace(records[0], choice=wrong)])


def test_the_judges_answer_comes_first_among_the_alternatives():
    own = dataclasses.replace(candidate("9"), text="mine")
    best, others = elect(MIXED.candidates, "majority", chosen=own)
    assert best is own
    assert [(x.answer, x.votes) for x in others] == [("9", 0), ("7", 2), ("3", 1), ("5", 1)]
    best, others = elect(MIXED.candidates, "majority", chosen=MIXED.candidates[1])
    assert [x.answer for x in others] == ["3", "7", "5"]
