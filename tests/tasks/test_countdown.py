"""Countdown: its solutions are right, what is wrong is found, and its splits never meet."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.tasks.countdown import LARGEST, LEVELS, PIECES, Countdown, Fault, fault
from ttc_jax.tasks.drawn import SPLITS
from ttc_jax.tasks.prompts import EARLIER, PromptFormat
from ttc_jax.tasks.task import Question

CONFIG = Path(__file__).parents[2] / "configs" / "countdown.py"
ASKED = Question("q", "04 07 13 25=88:", "")
RIGHT = "25-13=12 04 07\n07*12=84 04\n\\boxed{04+84}"


@pytest.fixture(scope="module")
def questions() -> dict[str, list[Question]]:
    return {split: Countdown(size=300).questions(split) for split in SPLITS}


def verdict(solution: str, question: Question = ASKED) -> tuple[str | None, bool]:
    [found] = Countdown().judge(question, [solution])
    return found.answer, found.correct


def test_worked_solutions_are_right_and_give_the_gold_answer(questions):
    for question in itertools.chain.from_iterable(questions.values()):
        assert fault(question, question.solution) is None
        assert verdict(question.solution, question) == (question.answer, True)


def test_the_gold_answer_is_an_expression_of_the_given_numbers_that_equals_the_target(questions):
    for question in itertools.chain.from_iterable(questions.values()):
        numbers, target = question.text[:-1].split("=")
        used = re.findall(r"\d+", question.answer)
        assert sorted(used) == numbers.split()
        assert eval(re.sub(r"\b0", "", question.answer)) == int(target)


def test_questions_are_as_the_task_says(questions):
    for question in itertools.chain.from_iterable(questions.values()):
        numbers = question.text.partition("=")[0].split()
        assert numbers == sorted(numbers)
        assert len(numbers) == int(question.level)
        assert 1 <= int(numbers[0]) <= int(numbers[-1]) <= LARGEST
        assert len(question.solution.split("\n")) == len(numbers) - 1
    assert {question.level for question in questions["test"]} == set(map(str, LEVELS))


def test_splits_never_meet_whatever_the_seed(questions):
    texts = {
        split: {q.text for q in [*found, *Countdown(size=300, seed=1).questions(split)]}
        for split, found in questions.items()
    }
    for one, other in itertools.combinations(texts.values(), 2):
        assert not one & other


def test_ids_are_unique_and_a_larger_size_adds_to_them(questions):
    for split, found in questions.items():
        assert Countdown(size=25).questions(split) == found[:25]
        assert len({q.id for q in found}) == len({q.text for q in found}) == 300
        assert found[7].id == f"countdown/{split}/0/7"


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        (RIGHT, None),
        ("25-13=12 07 04\n07*12=84 04\n\\boxed{84+04}", None),
        ("25-13=12 04 07\n07*12=84 04\n\\boxed{84-04}", Fault.TARGET),
        ("25-13=13 04 07\n07*13=91 04\n\\boxed{91-04}", Fault.EQUATION),
        ("25-13=12 04 07\n07*12=88 04\n\\boxed{88*04}", Fault.EQUATION),
        ("13-25=12 04 07\n07*12=84 04\n\\boxed{04+84}", Fault.EQUATION),
        ("25-13=12 04 07\n07*12=84 05\n\\boxed{05+84}", Fault.NUMBERS),  # from nowhere
        ("25-13=12 04 07\n12*07=84 12\n\\boxed{84+12}", Fault.NUMBERS),  # used twice
        ("25-13=12 04\n12*04=48 40\n\\boxed{48+40}", Fault.NUMBERS),
        ("\\boxed{84+04}", Fault.NUMBERS),
        ("25-13=12 04 07\n07*12=84 04\n\\boxed{88}", Fault.FORM),
        ("25-13=12 04 07\n07*12=84\n\\boxed{04+84}", Fault.FORM),
        ("25-13=12 04 07\n\n07*12=84 04\n\\boxed{04+84}", Fault.FORM),
        ("25-13=12,04,07\n\\boxed{04+84}", Fault.FORM),
        ("٢٥-13=12 04 07\n07*12=84 04\n\\boxed{04+84}", Fault.FORM),
        (RIGHT + "\n", Fault.FORM),
        (RIGHT[:-1], Fault.FORM),
        ("", Fault.FORM),
        ("25-13=12 04 07\n" * 100_000, Fault.FORM),
    ],
)
def test_what_is_wrong_with_a_solution(solution, expected):
    assert fault(ASKED, solution) == expected
    answer, correct = verdict(solution)
    assert correct == (expected is None)
    assert (answer is None) == (expected is Fault.FORM)


def test_a_derivation_votes_in_one_form_whatever_its_order():
    answers = {
        verdict(solution, Question("q", "03 05 09=11:", ""))[0]
        for solution in (
            "09+05=14 03\n\\boxed{14-03}",
            "09-03=06 05\n\\boxed{05+06}",
            "05-03=02 09\n\\boxed{09+02}",
        )
    }
    assert answers == {"+05+09-03"}


def test_a_false_equation_does_not_vote_with_the_true_one():
    false, _ = verdict("25-13=11 04 07\n07*11=77 04\n\\boxed{04+77}")
    true, _ = verdict("25-13=12 04 07\n07*12=84 04\n\\boxed{04+84}")
    assert false != true


def test_a_question_of_another_form_has_no_right_answer():
    assert verdict(RIGHT, Question("q", "what is 4 + 84?", "")) == ("+(+25-13)*07+04", False)


@given(st.integers(0, 299), st.data())
def test_one_changed_character_is_wrong_or_another_derivation(questions, number, data):
    question = questions["validation"][number]
    text = question.solution
    at = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(st.sampled_from([*"0123456789+-*=: \n}", ""]))
    changed = text[:at] + piece + text[at + 1 :]
    answer, correct = verdict(changed, question)
    assert correct == (fault(question, changed) is None)
    if correct and changed != text:  # the same numbers, and the same target
        assert answer is not None
        assert "[" not in answer


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        ({}, "dev", "no split 'dev': choose from test, validation, train"),
        ({"size": 0}, "test", "task.size is 0; it must be at least 1"),
    ],
)
def test_bad_input_is_named(options, split, message):
    with pytest.raises(UserError, match=message):
        Countdown(**options).questions(split)


def test_the_configs_hold_the_longest_question(questions):
    tokenizer = CharTokenizer(PIECES)
    for question in questions["train"]:
        assert tokenizer.decode(tokenizer.encode(question.text)) == question.text
        assert tokenizer.decode(tokenizer.encode(question.solution)) == question.solution
    prompt = len(tokenizer.encode(" ".join(["01"] * max(LEVELS)) + "=05:"))
    solution = max(len(tokenizer.encode(q.solution)) for q in questions["train"]) + 1

    variants = ("best_of_n", "generator", "prm", "revision", "revision_orm", "rest_em")
    configs = [load_config(f"{CONFIG}:{variant}") for variant in variants]
    sampled, generator, prm, *revising = configs
    for config in configs:
        text = questions["test"][0].text
        assert PromptFormat(**config.prompt).encode(text, tokenizer) == tokenizer.encode(text)
    limit = sampled.sampling.max_new_tokens
    assert solution <= limit
    assert prompt + solution <= max(generator.train.lengths)
    assert prompt + limit <= max(prm.train.lengths)
    longest = prompt + (EARLIER + 1) * limit
    assert longest <= generator.model.context
    for config in revising:
        assert longest <= max(config.train.lengths)


def solved(left: tuple[int, ...], target: int) -> bool:
    """Whether some order of operations comes to the target; every one of them is tried."""
    if len(left) == 1:
        return left == (target,)
    for i, j in itertools.permutations(range(len(left)), 2):
        rest = [n for place, n in enumerate(left) if place not in (i, j)]
        for made in (left[i] + left[j], left[i] - left[j], left[i] * left[j]):
            # No line can hold another result, nor another target be asked for.
            if 0 <= made < 100 and solved((*rest, made), target):
                return True
    return False


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        (["25-13=12 04 07", "07*12=84 04", "\\boxed{04+84}"], -1),
        (["25-13=13 04 07", "07*13=91 04", "\\boxed{91-04}"], 0),  # false
        (["25-13=12 04 07", "07*12=74 04", "\\boxed{04+74}"], 1),
        (["25-13=12 04 08", "08*12=96 04", "\\boxed{96-04}"], 0),  # a number from nowhere
        (["25-13=12 04", "\\boxed{04+12}"], 0),  # a number that is lost
        (["25-13=12 04 07", "07*12=84 04", "\\boxed{84-04}"], 2),  # misses the target
        (["25-13=12 04 07", "nothing"], 1),
        (["25*04=00 07 13"], 0),
    ],
)
def test_the_first_wrong_step(steps: list[str], wrong: int):
    asked = Question("q", "04 07 13 25=88:", "")
    assert Countdown().first_wrong_step(asked, steps) == wrong


def test_a_step_from_which_no_way_leads_on_is_wrong():
    task = Countdown(size=60, seed=3)
    for question in task.questions("test"):
        steps = question.solution.split("\n")
        assert task.first_wrong_step(question, steps) == -1
        numbers, target = question.text[:-4].split(), int(question.text[-3:-1])
        for i, j in itertools.combinations(range(len(numbers)), 2):
            rest = [int(n) for place, n in enumerate(numbers) if place not in (i, j)]
            made = int(numbers[i]) + int(numbers[j])
            if not rest:
                continue
            line = f"{numbers[i]}+{numbers[j]}={made:02} {' '.join(f'{n:02}' for n in rest)}"
            lives = solved((*rest, made), target)
            assert task.first_wrong_step(question, [line, "\\boxed{00+00}"]) == int(lives)
