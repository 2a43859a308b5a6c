"""Omni-MATH, OlympiadBench and GPQA: rows as they are published, lists, tolerances and letters.

The rows are written here in the published schema: the data themselves are not at hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ttc_jax.errors import UserError
from ttc_jax.tasks import load_task
from ttc_jax.tasks.choices import lettered
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.task import Question
from ttc_jax.tasks.tolerance import read_tolerances, within

OMNI = {
    "domain": ["Mathematics -> Algebra -> Other"],
    "difficulty": 8.5,
    "problem": "What is half of $\\sqrt{8}$?",
    "solution": "It is $\\sqrt{2}$.",
    "answer": "\\sqrt{2}",
    "source": "china_team_selection_test",
}
OLYMPIAD: dict[str, Any] = {
    "id": 2231,
    "subfield": "Algebra",
    "context": None,
    "question": "Solve $x^2=4$.",
    "solution": ["So $x=\\pm 2$."],
    "final_answer": ["$2$,$-2$"],
    "is_multiple_answer": True,
    "unit": None,
    "answer_type": "Numerical",
    "error": None,
}
GPQA: dict[str, Any] = {
    "Record ID": "rec0",
    "Question": "How long is a day?",
    "Correct Answer": "24 h",
    "Incorrect Answer 1": "12 h",
    "Incorrect Answer 2": "6 h",
    "Incorrect Answer 3": "1 h\n",
    "High-level domain": "Physics",
}


def question_of(name: str, row: dict, tmp_path: Path, **options: Any) -> tuple[Any, Question]:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    task = load_task(name, path=str(path), **options)
    [question] = task.questions("test")
    return task, question


def judged(task: Any, question: Question, *answers: str) -> list[bool]:
    return [x.correct for x in task.judge(question, [f"\\boxed{{{answer}}}" for answer in answers])]


def test_omni_math(tmp_path: Path, grader: Grader):
    task, question = question_of("omni_math", OMNI, tmp_path, grader=grader)
    assert (question.level, question.answer) == ("8.5", OMNI["answer"])
    assert question.id.startswith("omni_math/test/")
    assert judged(task, question, question.answer, "2^{1/2}", "2") == [True, True, False]


def test_olympiad_bench(tmp_path: Path, grader: Grader):
    task, question = question_of("olympiad_bench", OLYMPIAD, tmp_path, grader=grader)
    assert question == Question(
        "olympiad_bench/2231", "Solve $x^2=4$.", "2,-2", "Algebra", "So $x=\\pm 2$."
    )
    assert judged(task, question, "2,-2", "-2, 2", "\\pm 2", "2") == [True, True, True, False]
    both = ["So \\boxed{2} or \\boxed{-2}."]
    assert task.judge(question, both)[0].correct
    near = OLYMPIAD | {"context": "Measure.", "final_answer": ["$1.25$"], "error": "1e-1"}
    task, question = question_of("olympiad_bench", near, tmp_path, grader=grader)
    assert question.text == "Measure.\n\nSolve $x^2=4$."
    assert question.tolerance == (0.1,)
    assert judged(task, question, "1.25", "1.34", "\\frac{5}{4}", "1.36", "x") == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (OLYMPIAD | {"final_answer": None}, "'final_answer' must be a list of texts"),
        (OLYMPIAD | {"error": "small"}, "'error' must be a tolerance, found small"),
        (OLYMPIAD | {"error": "-1"}, "'error' must be a tolerance, found -1"),
    ],
)
def test_rows_of_olympiad_bench_that_cannot_be(tmp_path: Path, row: dict, said: str):
    with pytest.raises(UserError, match=f"rows.jsonl:1: field {said}"):
        question_of("olympiad_bench", row, tmp_path)


def test_gpqa(tmp_path: Path, grader: Grader):
    task, question = question_of("gpqa", GPQA, tmp_path, grader=grader)
    assert (question.id, question.level) == ("gpqa/rec0", "Physics")
    head, *choices = question.text.splitlines()
    assert head == GPQA["Question"]
    assert sorted(line[3:] for line in choices if line) == ["1 h", "12 h", "24 h", "6 h"]
    right = question.answer
    assert f"{right}) 24 h" in choices
    [other] = set("AB") - {right} if right in "AB" else {"A"}
    answers = (right, f"({right})", f"\\text{{{right}}}", f"{right}) 24 h", other)
    assert judged(task, question, *answers) == [True, True, True, True, False]
    assert task.judge(question, [f"The answer is ({right})."])[0].correct
    letters = {question_of("gpqa", GPQA, tmp_path, seed=seed)[1].answer for seed in range(40)}
    assert letters == set("ABCD")
    row = {name: GPQA[name] for name in GPQA if name != "Incorrect Answer 3"}
    with pytest.raises(UserError, match="field 'Incorrect Answer 3' is missing"):
        question_of("gpqa", row, tmp_path)


def test_choices_are_shuffled_by_their_key_alone():
    text, letter = lettered("q", "a", ["b", "c", "d"])
    assert lettered("q", "a", ["d", "b", "c"]) == (text, letter)
    places = [lettered(f"{i}", "a", ["b", "c", "d"])[1] for i in range(400)]
    assert all(70 < places.count(x) < 130 for x in "ABCD")


@pytest.mark.parametrize(
    ("gold", "answer", "tolerance", "is_within"),
    [
        ("3.14", "3.15", "0.01", True),
        ("3.14", "3.1501", "0.01", False),
        ("1,200", "1205", "5", True),
        ("1.5, 2.5", "2.4 and 1.5", "0.1", True),
        ("1.5, 2.5", "2.4, 2.5", "0.1", False),
        ("1.5, 2.5", "1.5", "0.1", False),
        ("1.0, 2.0", "2.05, 1.0", "0,0.1", True),
        ("1.0, 2.0", "1.05, 2.0", ",0.1", False),
        ("1.0", "\\sqrt{1}", "0.1", False),  # numerals alone
    ],
)
def test_within_a_tolerance(gold: str, answer: str, tolerance: str, is_within: bool):
    assert within(gold, answer, read_tolerances(tolerance)) is is_within
