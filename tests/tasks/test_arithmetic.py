"""The embedded task: its solutions are right, its splits never meet, and the configs hold it."""

import re
from pathlib import Path

import pytest

from ttc_jax.config import load_config
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.tasks.arithmetic import LEVELS, PIECES, STEPS, VARIABLES, Arithmetic
from ttc_jax.tasks.drawn import SPLITS
from ttc_jax.tasks.prompts import EARLIER, PromptFormat
from ttc_jax.tasks.task import Question

CONFIG = Path(__file__).parents[2] / "configs" / "arithmetic.py"
ENTRY = re.compile(r"([a-z])([=+*-])(\d\d)")
LINE = re.compile(r"([a-z])(\d\d)([+*-])(\d\d)=(\d\d)")


@pytest.fixture(scope="module")
def questions() -> dict[str, list[Question]]:
    return {split: Arithmetic(size=400).questions(split) for split in SPLITS}


def value_of(text: str) -> str:
    """The last variable's value, from the question alone."""
    entries = {name: (sign, int(n)) for name, sign, n in ENTRY.findall(text)}
    assert len(entries) == text.count(" ") + 1
    names = sorted(entries)
    assert names == list(VARIABLES[: len(names)])
    value = 0
    for name in names:
        sign, number = entries[name]
        assert (sign == "=") == (name == "a")
        value = {"=": number, "+": value + number, "-": value - number, "*": value * number}[sign]
    return f"{value % 100:02}"


def test_answers_are_those_of_the_question(questions):
    for question in (q for split in questions.values() for q in split):
        assert question.text.endswith(":")
        assert question.answer == value_of(question.text)


def test_every_line_of_a_solution_follows(questions):
    for question in questions["train"]:
        entries = {name: (sign, number) for name, sign, number in ENTRY.findall(question.text)}
        *lines, box = question.solution.split("\n")
        before = entries["a"][1]
        for name, line in zip(VARIABLES[1:], lines, strict=False):
            found = LINE.fullmatch(line)
            assert found
            variable, left, sign, right, result = found.groups()
            assert (variable, left, (sign, right)) == (name, before, entries[name])
            left, right = int(left), int(right)
            exact = {"+": left + right, "-": left - right, "*": left * right}[sign]
            assert int(result) == exact % 100
            before = result
        assert len(lines) == len(entries) - 1
        assert box == f"\\boxed{{{before}}}"
        assert before == question.answer


def test_no_product_collapses_a_chain(questions):
    for question in questions["test"]:
        factors = [int(n) for _, sign, n in ENTRY.findall(question.text) if sign == "*"]
        assert all(factor % 2 and factor % 5 for factor in factors)


def test_levels_set_products_and_terms_and_lengths_vary(questions):
    assert {question.level for question in questions["test"]} == set(LEVELS)
    for level, (largest, share) in LEVELS.items():
        operations = [
            (sign, int(number))
            for question in questions["train"]
            if question.level == level
            for _, sign, number in ENTRY.findall(question.text)
            if sign != "="
        ]
        terms = [number for sign, number in operations if sign != "*"]
        assert len(terms) / len(operations) == pytest.approx(1 - share, abs=0.06)
        assert {min(terms), max(terms)} == {1, largest}
    lengths = {len(ENTRY.findall(question.text)) - 1 for question in questions["train"]}
    assert lengths == set(range(STEPS[0], STEPS[1] + 1))


def test_splits_never_meet_whatever_the_seed(questions):
    texts = {
        split: {q.text for seed in (0, 1) for q in Arithmetic(size=400, seed=seed).questions(split)}
        for split in SPLITS
    }
    assert [len(found) for found in texts.values()] == [800] * 3  # seeds give other questions
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    # They look alike: what is learnt on one is asked by the other.
    train, test = (sum(len(text) for text in texts[split]) / 800 for split in ("train", "test"))
    assert train == pytest.approx(test, rel=0.05)


def test_ids_are_unique_and_a_larger_size_adds_to_them(questions):
    for split, found in questions.items():
        assert Arithmetic(size=25).questions(split) == found[:25]
        assert len({question.id for question in found}) == len({q.text for q in found}) == 400
        assert found[7].id == f"arithmetic/{split}/0/7"


@pytest.mark.parametrize(
    ("solution", "answer", "correct"),
    [
        ("b01+02=03\n\\boxed{03}", "03", True),
        ("\\boxed{04}", "04", False),
        ("\\boxed{04}\n\\boxed{03}", "03", True),
        ("\\boxed{03}\n\\boxed{0", "03", True),
        ("03", None, False),
        ("\\boxed{3}", None, False),
        ("\\boxed{003}", None, False),
        ("\\boxed{3a}", None, False),
        ("\\boxed{٠٣}", None, False),
        ("\\boxed{}", None, False),
        ("", None, False),
    ],
)
def test_two_digits_in_the_last_box_or_no_answer(solution, answer, correct):
    [verdict] = Arithmetic().judge(Question("q", "", "03"), [solution])
    assert (verdict.answer, verdict.correct) == (answer, correct)


def test_solutions_are_judged_correct(questions):
    for question in questions["validation"]:
        [verdict] = Arithmetic().judge(question, [question.solution])
        assert verdict.correct


@pytest.mark.parametrize(
    ("options", "split", "message"),
    [
        ({}, "dev", "no split 'dev': choose from test, validation, train"),
        ({"size": 0}, "test", "task.size is 0; it must be at least 1"),
    ],
)
def test_bad_input_is_named(options, split, message):
    with pytest.raises(UserError, match=message):
        Arithmetic(**options).questions(split)


def test_the_configs_hold_the_longest_question(questions):
    tokenizer = CharTokenizer(PIECES)
    for question in questions["train"]:
        assert tokenizer.decode(tokenizer.encode(question.text)) == question.text
        assert tokenizer.decode(tokenizer.encode(question.solution)) == question.solution
    steps = STEPS[1]
    prompt = len(tokenizer.encode("=".join(["a=00", *["b+00"] * steps]) + ":"))
    solution = len(tokenizer.encode("b00+00=00\n" * steps + "\\boxed{00}")) + 1
    found = questions["train"]
    assert prompt == max(len(tokenizer.encode(question.text)) for question in found)
    assert solution == max(len(tokenizer.encode(question.solution)) for question in found) + 1

    variants = ("best_of_n", "generator", "prm", "revision", "revision_orm", "rest_em")
    configs = [load_config(f"{CONFIG}:{variant}") for variant in variants]
    sampled, generator, prm, revision, revision_orm, rest_em = configs
    for config in configs:
        text = questions["test"][0].text
        assert PromptFormat(**config.prompt).encode(text, tokenizer) == tokenizer.encode(text)
    context = generator.model.context
    limit = sampled.sampling.max_new_tokens
    assert solution <= limit
    assert prompt + solution <= max(generator.train.lengths)
    assert prompt + limit <= max(prm.train.lengths)
    longest = prompt + (EARLIER + 1) * limit
    assert longest <= context
    for config in (revision, revision_orm, rest_em):
        assert longest <= max(config.train.lengths)
