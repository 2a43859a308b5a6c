"""HumanEval and MBPP: rows, programs in answers, votes by behaviour, verdicts."""

import dataclasses
import json
import math
import os
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_jax.errors import UserError
from ttc_jax.tasks import load_task
from ttc_jax.tasks.code.executor import Executor
from ttc_jax.tasks.code.inputs import COUNT, arguments, examples
from ttc_jax.tasks.code.inside.values import canonical, decode, encode
from ttc_jax.tasks.code.programs import asked, program
from ttc_jax.tasks.code.sets import MBPP, HumanEval, MBPPPlus
from ttc_jax.tasks.task import Verdict

PROMPT = '''import math


def half(x):
    return x / 2


def middle(xs: list):
    """The middle one of sorted numbers, or the mean of the two middle ones.
    >>> middle([3, 1, 2])
    2
    >>> middle([4, 1, 3, 2])
    2.5
    """
'''
BODY = """    xs = sorted(xs)
    n = len(xs)
    return xs[n // 2] if n % 2 else half(xs[n // 2 - 1] + xs[n // 2])
"""
HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": PROMPT,
    "entry_point": "middle",
    "canonical_solution": BODY,
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([5, 1, 3]) == 3\n"
    "    assert abs(candidate([1, 2]) - 1.5) < 1e-6\n    for n in range(1, 4):\n"
    "        assert candidate(list(range(2 * n + 1))) == n\n",
}
TWICE = {
    "source_file": "rows.ipynb",
    "task_id": 11,
    "prompt": "Write a function to put a list behind itself.",
    "code": "def twice(xs):\n  return xs + xs",
    "test_imports": ["import math"],
    "test_list": [
        "assert twice([1]) == [1, 1]",
        "assert set(twice([1, 2])) == {1, 2}",
        "assert math.isclose(sum(twice([0.5])), 1)",
    ],
}
PAIRS = {
    "task_id": 601,
    "text": "Write a function to add up pairs.",
    "code": "class Pair:\n def __init__(self, a, b): self.a, self.b = a, b\n"
    "def total(pairs): return sum(pair.a + pair.b for pair in pairs)",
    "test_setup_code": "",
    "test_list": ["assert total([Pair(1, 2), Pair(3, 4)]) == 10", "assert Pair(1, 2).a == 1"],
    "challenge_test_list": [],
}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """Programs in namespaces, where this system has them."""
    found = Executor("isolated", seconds=2.0, megabytes=512, workers=2)
    try:
        found.ready()
    except UserError as error:
        pytest.skip(str(error))
    yield found
    found.close()


def test_rows_of_human_eval(tmp_path: Path):
    task = load_task("humaneval", path=write(tmp_path / "rows.jsonl", [HUMAN_EVAL]))
    [question] = task.questions("test")
    assert question.id == "humaneval/HumanEval/0"
    assert (question.text, question.solution) == (PROMPT, BODY)
    assert question.answer.endswith("== n\n\n\ncheck(middle)\n")


def test_rows_of_mbpp(tmp_path: Path):
    (tmp_path / "rows.json").write_text(json.dumps([TWICE, PAIRS], indent=1))  # one list, as it is
    task = MBPP(tmp_path / "rows.json")
    [question] = task.questions("test")
    assert question.id == "mbpp/11"
    assert question.text == (
        "Write a function to put a list behind itself.\nYour code should pass these tests:\n\n"
        + "\n".join(TWICE["test_list"])
    )
    assert question.answer.startswith("import math\n")
    assert [x.id for x in task.questions("train")] == ["mbpp/601"]
    with pytest.raises(UserError, match="no questions in it"):
        task.questions("validation")
    plus = MBPPPlus(write(tmp_path / "plus.jsonl", [TWICE | {"test": "assert twice([]) == []"}]))
    assert plus.questions("test")[0].answer == "assert twice([]) == []"


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (HumanEval, {"entry_point": "half"}, "rows.jsonl:1: field 'entry_point' is 'half'"),
        (HumanEval, {"entry_point": "a); b("}, "rows.jsonl:1: field 'entry_point'"),
        (HumanEval, {"test": ""}, "field 'test' is empty"),
        (HumanEval, {"prompt": ["a"]}, "field 'prompt' must be text"),
        (MBPP, {"test_list": "assert f()"}, "field 'test_list' must be a list of texts"),
        (MBPP, {"test_list": []}, "field 'test_list' has no assert"),
        (MBPP, {"test_list": ["assert f('\ud800')"]}, "field 'test_list' holds what is no Unicode"),
        (MBPP, {"test_imports": [1]}, "field 'test_imports' must be a list of texts"),
        (MBPP, {"task_id": "eleven"}, "field 'task_id' is 'eleven'; it must be a number"),
    ],
)
def test_bad_rows(tmp_path: Path, kind: type[HumanEval] | type[MBPP], change: dict, said: str):
    row = (HUMAN_EVAL if kind is HumanEval else TWICE) | change
    with pytest.raises(UserError) as caught:
        kind(write(tmp_path / "rows.jsonl", [row])).questions("test")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_needed():
    with pytest.raises(UserError, match="set task.path to a JSONL file .* such as HumanEval.jsonl"):
        HumanEval().questions("test")


def test_nothing_is_run_unless_asked_for(tmp_path: Path):
    task = HumanEval(write(tmp_path / "rows.jsonl", [HUMAN_EVAL]))
    [question] = task.questions("test")
    for do in (task.ready, lambda: task.judge(question, [BODY])):
        with pytest.raises(UserError, match="task.execute is empty: .* programs .*=isolated"):
            do()
    with pytest.raises(UserError, match="task.execute=docker: must be isolated, limits or empty"):
        HumanEval(execute="docker")


GIVEN = PROMPT.partition("def middle")[0]
ANSWERS = [  # an answer, and the program in it
    (BODY, PROMPT + BODY),
    (BODY + "\nprint(middle([1]))\ndef other(): pass", PROMPT + BODY + "\n"),
    (f"{BODY}```\nIt sorts.", PROMPT + BODY),
    ("def middle(xs):\n  return 1\n", GIVEN + "def middle(xs):\n  return 1\n"),
    (
        "Sure!\n```python\ndef middle(xs):\n  return 1\n```\nDone.",
        GIVEN + "def middle(xs):\n  return 1\n",
    ),
    # Of several blocks the last one that defines it, not the one that uses it.
    (
        "```python\ndef middle(xs): return 1\n```\nBetter:\n```py\nmiddle = max\n```\n"
        "```\nmiddle([1])\n```",
        GIVEN + "middle = max\n",
    ),
    ("```python\ndef middle(xs):\n  return", GIVEN + "def middle(xs):\n  return"),  # cut off
    ("<think>```python\ndef middle(xs): return 1\n```", None),
    ("<think>def middle(xs): 1</think>" + BODY, PROMPT + BODY),
    (
        "Use this:\n\nimport re\ndef middle(xs): return 2",
        GIVEN + "import re\ndef middle(xs): return 2",
    ),
    (
        "Yes.\nMOST = 2\ndef middle (xs): return MOST",
        f"{GIVEN}MOST = 2\ndef middle (xs): return MOST",
    ),
    ("I do not know.", None),
    ("", None),
    ("    " + "x" * 60_000, None),
]


@pytest.mark.parametrize(("answer", "found"), ANSWERS)
def test_the_program_in_an_answer(answer: str, found: str | None):
    assert program(PROMPT, answer) == found


def test_the_function_that_is_asked_for():
    assert asked(PROMPT) == "middle"
    assert asked("Add.\n\nassert set(add(1, 2)) == {3}") == "add"
    assert asked("Add.\n\nassert sum(1, 2) == 3") == "sum"
    assert asked("Add.\n\nassert x.add(1) == 3") == ""
    assert program("What is 1 + 1?", "```python\nprint(2)\n```") is None
    assert program("assert add(1) == 1", "I think\n[BEGIN]\ndef add(x): return x\n[DONE]\nx") == (
        "def add(x): return x\n"
    )


def test_inputs_are_those_of_the_examples_and_variations_of_them():
    assert examples(PROMPT, "middle") == [([3, 1, 2],), ([4, 1, 3, 2],)]
    told = 'f(")", (1, {2: [3]})) == 1, f(x), f(*y), g(4), x.f(5), f(1, k=2), f("a'
    assert examples(told, "f") == [(")", (1, {2: [3]}))]
    found = arguments(PROMPT, "middle")
    assert found[:2] == examples(PROMPT, "middle")
    assert len({repr(x) for x in found}) == len(found) == COUNT
    assert found == arguments(PROMPT, "middle") != arguments(PROMPT + " ", "middle")
    assert all(isinstance(xs, list) and all(type(x) is int for x in xs) for [xs] in found)
    guessed = arguments("def f(a: list, b):\n  '''No example.'''", "f")
    assert len(guessed) == 3 * COUNT
    assert {len(x) for x in guessed} == {2}
    assert arguments("", "") == arguments("def f():", "f") == []


Point = namedtuple("Point", "x y")
VALUES = [
    None, True, 0, -(10**30), 1.5, math.inf, "é\ud800", b"\xff", [1, (2, {3})], {1: {"a": [None]}},
    frozenset({1}), 1 + 2j, range(1, 9, 2), Fraction(1, 3), Decimal("1.10"), set(), {(1, 2): 3},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_values_cross_as_they_are(value: object):
    back = decode(json.loads(json.dumps(encode(value, id))), id)
    assert (back, type(back)) == (value, type(value))


def test_values_of_subclasses_cross_as_pythons_own():
    class Colour(StrEnum):
        RED = "red"

    class One(IntEnum):
        ONE = 1

    for value, own in [
        (OrderedDict(a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Point(1, 2), (1, 2)),
        (Colour.RED, "red"),
        (One.ONE, 1),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
    ]:
        back = decode(encode(value, id), id)
        assert (back, type(back)) == (own, type(own))
    assert decode(encode(object, lambda _: 7), lambda reference: reference) == 7
    for sent in (["set", [["list", []]]], ["lambda", 1], {"a": 1}, ["dict", [1]], ["int", 5]):
        with pytest.raises(ValueError, match="not a value"):
            decode(sent, id)


def test_behaviour_is_the_same_for_equal_values():
    same = [(1, 1.0), (True, 1), ({2, 1}, frozenset({1, 2})), ({1: 2, 3: 4}, {3: 4, 1: 2})]
    same += [(0.1 + 0.2, 0.3), (iter([1]), (x for x in [1]))]
    for one, other in same:
        assert canonical(one) == canonical(other)
    other = [[1], (1,), "1", 1, b"1", None, [[1]], {1}, {1: 1}, 1.5, math.nan, 1 << 60]
    assert len({canonical(value) for value in other}) == len(other)


def test_verdicts_and_votes(tmp_path: Path, executor: Executor):
    task = HumanEval(write(tmp_path / "rows.jsonl", [HUMAN_EVAL]), executor=executor)
    [question] = task.questions("test")
    other = "import statistics\ndef middle(xs):\n    print('x')\n    return statistics.median(xs)"
    biggest = "    return max(xs)\n"
    solutions = [BODY, f"```python\n{other}\n```", biggest, "    return sorted(xs)[-1]\n"]
    solutions += ["    return xs[", "    return unknown", "I do not know.", "    return min(xs)"]
    right, alike, most, last, broken, fails, none, least = task.judge(question, solutions)
    assert right.correct
    assert alike.correct
    assert right.answer == alike.answer is not None
    assert most == last
    assert not most.correct
    assert most.answer not in (None, right.answer, least.answer)
    assert [broken, fails, none] == [Verdict(None, False)] * 3
    # The key is of the program, whatever the tests say.
    other_tests = dataclasses.replace(question, answer="assert middle([1, 9]) == 9\n")
    assert task.judge(other_tests, [biggest, BODY]) == [
        Verdict(most.answer, True),
        Verdict(right.answer, False),
    ]
    [untested] = task.judge(dataclasses.replace(question, answer=""), [BODY])
    assert untested == Verdict(right.answer, False)


def test_verdicts_of_mbpp(tmp_path: Path, executor: Executor):
    """Also of functions that are given objects of the program's own classes."""
    task = MBPP(write(tmp_path / "rows.jsonl", [TWICE, PAIRS]), executor=executor)
    for split in ("test", "train"):
        [question] = task.questions(split)
        wrong = question.solution.replace("+", "*")
        verdicts = task.judge(
            question, [question.solution, f"```\n{question.solution}\n```", wrong]
        )
        assert [x.correct for x in verdicts] == [True, True, False]


@pytest.mark.parametrize(
    ("body", "tests"),
    [
        ("def f(x): raise KeyError(x)", "try: f(1)\nexcept LookupError: pass\nelse: assert False"),
        ("class E(ValueError): pass\ndef f(x): raise E", "try: f(1)\nexcept ValueError: pass"),
        ("def f(x): yield from range(x)", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3"),
        ("import numpy as np\ndef f(x): return np.sum(x)", "assert f([1, 2]) == 3"),
        ("def f(x): return {'a': (1, {2})}", "assert f(1) == {'a': (1, {2})}"),
        ("def sum(x): return 7\nf = sum", "assert f(1) == 7 and sum([1]) == 1"),
        ("if __name__ == '__main__': 1 / 0\ndef f(x): return x", "assert f(1) == 1"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n x: int\ndef f(x): return P(x)",
         "assert f(1).x == 1"),
    ],
)  # fmt: skip
def test_what_tests_may_do(body: str, tests: str, executor: Executor):
    [outcome] = executor.judge("f", tests, [], [body])
    assert outcome.passed, outcome.reason


@pytest.fixture(scope="module")
def code_data() -> Path:
    """The folder that TTC_CODE_DATA names."""
    if "TTC_CODE_DATA" not in os.environ:
        pytest.skip("TTC_CODE_DATA does not name a folder with HumanEval and MBPP")
    return Path(os.environ["TTC_CODE_DATA"])


@pytest.mark.parametrize(
    ("name", "file"), [("humaneval", "HumanEval.jsonl"), ("mbpp", "sanitized-mbpp.json")]
)
def test_reference_solutions_pass(name: str, file: str, code_data: Path):
    if not (code_data / file).exists():
        pytest.skip(f"TTC_CODE_DATA has no {file}")
    task: Any = load_task(name, path=code_data / file, execute="isolated")
    questions = [x for split in task.splits for x in task.questions(split)]
    judged = {x.id: task.judge(x, [x.solution])[0].correct for x in questions}
    assert [name for name, correct in judged.items() if not correct] == []
