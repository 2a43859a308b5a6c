"""Trajectories up to their first correct answer."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from tests.training.toy import END, TOKENIZER, candidate, collected
from ttc_jax.results.store import Candidate
from ttc_jax.tasks.task import Question
from ttc_jax.training.rest_em import LONGEST, examples, up_to_correct

ASKED = Question("t/0", "01 01=02:", "02")


def chain(marks: str) -> list[Candidate]:
    """+ is a correct answer, - a wrong one, _ one that was cut off."""
    return [
        candidate("1\n", finished=False)
        if mark == "_"
        else candidate(f"{i}\\boxed{{0{2 if mark == '+' else 3}}}", ASKED.answer)
        for i, mark in enumerate(marks)
    ]


@hypothesis.given(st.text("+-_", min_size=1, max_size=8))
def test_a_trajectory_ends_with_its_first_correct_answer(marks: str):
    answers = chain(marks)
    length = marks.find("+") + 1
    whole = 0 < length <= LONGEST and "_" not in marks[:length]
    assert list(up_to_correct(answers)) == (answers[:length] if whole else [])


def test_all_answers_of_a_trajectory_are_asked_for():
    answers = chain("--+-")
    [example] = examples([collected(ASKED, answers)], per_length=1, seed=0)["t/0"]
    start = TOKENIZER.encode(ASKED.text)
    said = [token for answer in answers[:3] for token in answer.tokens]
    assert example.tokens.tolist() == [*start, *said[:-1]]
    assert said.count(END) == 3
    at = np.flatnonzero(example.weights)
    assert at.tolist() == list(range(len(start) - 1, len(example.tokens)))
    assert example.targets[at].astype(int).tolist() == said


def test_lengths_are_balanced_as_far_as_there_are():
    other = Question("t/1", "02=02:", "02")
    one = collected(ASKED, *[chain("+")] * 30, *[chain("-+")] * 5, chain("---+"), chain("-----+"))
    two = collected(other, *[chain("+")] * 20, *[chain("--")] * 9)

    def lengths(seed: int = 0) -> dict[str, list[int]]:
        found = examples([one, two], per_length=8, seed=seed)
        return {
            question: [int((row.targets[row.weights > 0] == END).sum()) for row in rows]
            for question, rows in found.items()
        }

    found = lengths()
    counts = np.bincount([length for rows in found.values() for length in rows])
    assert counts.tolist() == [0, 8, 5, 0, 1]
    assert set(found) == {"t/0", "t/1"}
    assert lengths() == found
    assert any(lengths(seed) != found for seed in range(1, 5))
