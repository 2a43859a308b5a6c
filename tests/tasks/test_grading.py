import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ttc_jax.errors import UserError
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.task import Verdict

HOSTILE = {
    "tower": "9^{9^{9^{9^{9}}}}",
    "binomial": "\\binom{10^9}{5 \\cdot 10^8}",
    "nest": "\\frac{1}{" * 10**4 + "1+" + "}" * 10**4,
    "parentheses": "(" * 10**4 + "1" + ")" * 10**4,
    "ten megabytes": "1+" * 5_000_000 + "1",
}
SLOW = {  # to simplify, not to read
    "expansion": "(x+1)^{10^6}",
    "expansion of two": "(x+y+z+1)^{400}",
    "identity": "\\sin^{60}(x^2+\\cos^{50}(x+\\tan y))\\cos^{40}(x+y^{\\sin z})",
    "root": "\\sqrt{x+" * 20 + "1" + "}" * 20,
}


def correct(grader: Grader, gold: str, *answers: str) -> list[bool]:
    return [verdict.correct for verdict in grader.judge(gold, answers)]


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("\\frac{1}{2}", "0.5", True),
        ("1/3", "0.333333", True),
        ("1/3", "0.33", False),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("2\\sqrt{2}", "\\sqrt{8}", True),
        ("90^\\circ", "90", True),
        ("50\\%", "0.5", True),
        ("18", "18\\text{ cm}", True),
        ("1\\frac{1}{2}", "1.5", True),
        ("\\text{Evelyn}", "Evelyn", True),
        ("\\text{(A)}", "A", True),
        ("\\text{even}", "odd", False),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\pi/2)", True),
        ("(1,2)", "(2,1)", False),
        ("1,-2", "-2, 1", True),
        ("3\\frac{1}{2}", "3 1/2", True),
        ("3.5", "3 1/2", True),
        ("p - q", "q - p", False),
        ("5", "\\sqrt{", False),
        ("\\sqrt{", "\\sqrt{", True),
        ("3.", "3", True),
    ],
)
def test_equal(grader: Grader, gold: str, answer: str, equal: bool) -> None:
    assert correct(grader, gold, answer) == [equal]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2516_8", "2516_9"),
        ("10_2 + 11_2", "10_3 + 11_3"),
        ("6:30", "7:35"),  # both a fifth
        ("1:2:3", "1:1:6"),  # both a sixth
        ("5", r"\{x\mid 2\le x<5\}"),
        (r"\lbrace 1,2\rbrace", "1.2"),
        (r"\langle 1,2\rangle", "1.2"),
        (r"\{1,2\}", "(1,2)"),
        ("7", r"3+4\mathrm{i}"),
        ("1/2004!", "1/2006!"),
        (r"\frac{1}{2006!}", r"\frac{1}{2004!}"),
        ("2^{-100}", "2^{-101}"),
        ("e^{-40}", "e^{-50}"),
        ("0.0000001", "0.0000002"),
        ("(1, 2^{-100})", "(1, 2^{-101})"),
        (r"\frac{x}{2^{100}}", r"\frac{x}{2^{101}}"),
        ("2c", "2"),  # a letter is no unit
        ("2c", "2d"),
        ("3m", "3"),
        (r"\sqrt{3}h", r"\sqrt{3}"),
        (r"5\text{ and }3\text{ cm}", "5"),
        ("2", r"2\text{ million}"),
        (r"\frac123", r"\frac{1}{23}"),
        ("2", "2x = 4"),  # it says what 2x is
        ("15", r"5 \text{ apples and } 3 \text{ pears}"),
        ("A - B", "a - b"),
        ("AAS", "ASA"),
        (r"\sin 30^\circ", r"\sin 30"),
        ("June 20", "20"),
        ("2x+1", "2y+1"),
        ("x=5", "y=5"),
        ("1/7", "0.143"),
        ("(1,2)", "[1,2]"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ],
)
def test_unequal(grader: Grader, one: str, other: str) -> None:
    assert correct(grader, one, other) == correct(grader, other, one) == [False]
    assert correct(grader, one, one) == [True]


def test_a_letter_stands_for_its_choice(grader: Grader) -> None:
    answers = ["C", "(C)", r"\textbf{(C)}\ 5", "C. 5", r"\textbf{(B)}\ 5", "B"]
    assert correct(grader, r"\text{(C)}", *answers) == [True] * 4 + [False] * 2
    assert correct(grader, "5", *answers) == [False] * 2 + [True] * 3 + [False]
    assert correct(grader, r"\textbf{(C)}\ 5", *answers, "5") == [True] * 5 + [False, True]


@pytest.mark.parametrize(
    "same",
    [
        ("\\frac{1}{2}", "0.5", "1/2", "\\dfrac12", ".50", "\\frac{3}{6}", "2^{-1}"),
        ("1,234", "1234", "1234.0", "1{,}234", "\\$1234"),
        ("2\\sqrt{2}", "\\sqrt{8}", "2 \\sqrt 2", "x = 2\\sqrt2", "y = \\sqrt{4 + 4} = 2\\sqrt2"),
        ("50", "50\\%", "50%", "5 \\times 10", "5 \\times 10 = 50", "n = 5 \\times 10 = 50"),
        ("(3, \\frac{\\pi}{2})", "\\left( 3, \\pi/2 \\right)"),
        ("\\{1, 2\\}", "\\{2,1\\}", "1,2"),
        ("\\text{no solution}", "No solution"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        ("\\left\\}\\,?", "\\} ?"),  # unreadable: the text but for its spacing
    ],
)
def test_equal_answers_vote_together(grader: Grader, same: tuple[str, ...]) -> None:
    keys = {verdict.answer for verdict in grader.judge("7", same)}
    assert len(keys) == 1
    assert keys != {None}


def test_different_answers_vote_apart(grader: Grader) -> None:
    answers = ["1", "-1", "10", "x", "xy", "x+y", "(1,2)", "(2,1)", "[1,2]", "\\sqrt{2}", "1.41"]
    answers += ["evens", "seven", "50", "5000", "1/50", "\\pi", "3.14", "\\sqrt{", "\\sqrt{2", "i"]
    answers += ["1 < 2", "2 < 3", "3:00", "4:00", "5/0", "x > 2", "x > 3", "2x = 4"]
    keys = [verdict.answer for verdict in grader.judge("7", answers)]
    assert len(set(keys)) == len(answers)


def test_the_vote_does_not_depend_on_the_gold_answer(grader: Grader) -> None:
    answers = ["x=5", "5", "\\sqrt{8}", "50\\%", "B"]
    keys = [
        [verdict.answer for verdict in grader.judge(gold, answers)]
        for gold in ("5", "\\sqrt{8}", "0.5", "\\text{(B)}")
    ]
    assert all(row == keys[0] for row in keys)


def test_no_answer(grader: Grader) -> None:
    assert grader.judge("1", [None, "", " . "]) == [Verdict(None, False)] * 3
    assert grader.judge("1", []) == []


def test_plain_answers_never_start_a_worker() -> None:
    with Grader(megabytes=1) as grader:  # too little for any worker to start
        answers = ["18", "$18", "18.0", "36/2", "19", "1,800", "18.5"]
        assert correct(grader, "18", *answers) == [True] * 4 + [False] * 3
        assert correct(grader, "\\text{east}", "East", "\\text{east}") == [True, True]
        assert correct(grader, "", "18", "1800", "east") == [False] * 3


def test_an_answer_is_read_once(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    first = grader.judge("\\sqrt{3}", [HOSTILE["tower"]] * 50)  # takes all the time there is
    monkeypatch.setattr(grader, "_ask", None)
    assert grader.judge("\\sqrt{3}", [HOSTILE["tower"]] * 50) == first


def test_hostile_answers_are_bounded_and_grading_goes_on() -> None:
    with Grader(workers=2, seconds=1.0, megabytes=512, max_answer=10**8) as grader:
        assert correct(grader, "\\sqrt{8}", "2\\sqrt{2}") == [True]
        answers = [*HOSTILE.values(), "\\sqrt{1}"]
        assert correct(grader, "1", *answers) == [False] * len(HOSTILE) + [True]
        for name, answer in HOSTILE.items():
            assert grader.unparsed[answer[:200]] in ("over the bounds", "no value"), name


def test_a_slow_simplification_loses_neither_verdict_nor_vote() -> None:
    with Grader(workers=2, seconds=2.0, megabytes=512) as grader:
        for answer in SLOW.values():
            spaced = answer.replace("+", " + ")
            one, other = grader.judge(answer, [answer, spaced])
            assert one.correct
            assert one.answer == other.answer
        assert correct(grader, "\\sqrt{8}", "2\\sqrt{2}") == [True]


def test_a_vote_does_not_depend_on_a_gold_answer_that_breaks_the_bounds() -> None:
    with Grader(workers=1, seconds=1.0, megabytes=512) as grader:
        [verdict] = grader.judge(HOSTILE["tower"], ["\\sqrt{8}"])
    with Grader(workers=1, seconds=1.0, megabytes=512) as grader:
        assert verdict == grader.judge("7", ["\\sqrt{8}"])[0] == Verdict("2*sqrt(2)", False)


def test_memory_stays_within_the_bound() -> None:
    """Measured in a process of its own, whose only children are the workers."""
    program = """if True:
        import resource
        from tests.tasks.test_grading import HOSTILE, Grader
        with Grader(workers=2, seconds=1.0, megabytes=512, max_answer=10**8) as grader:
            grader.judge("1", list(HOSTILE.values()))
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    """
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
    assert 0 < int(found.stdout) < 600 * 1024  # kilobytes, of the largest worker that has ended


def test_too_long_is_no_answer(grader: Grader) -> None:
    for answer in (HOSTILE["nest"], HOSTILE["parentheses"], HOSTILE["ten megabytes"]):
        assert grader.judge("1", [answer]) == [Verdict(None, False)]
        assert grader.unparsed[answer[:200]] == "too long"


def test_an_exact_match_is_right_whatever_its_reading_costs(grader: Grader) -> None:
    [verdict] = grader.judge(HOSTILE["tower"], [HOSTILE["tower"]])
    assert verdict == Verdict(HOSTILE["tower"], True)
    assert grader.unparsed[HOSTILE["tower"]] == "over the bounds"


def run_script(text: str, folder: Path) -> "subprocess.Popen[str]":
    script = folder / "script.py"
    script.write_text(text)
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        text=True,
    )


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    with run_script(
        "from ttc_jax.tasks.grading import Grader\n"
        "print(Grader().judge('2', [r'\\sqrt{4}'])[0].correct)\n",
        tmp_path,
    ) as script:
        assert script.communicate(timeout=30)[0] == "True\n"
    assert script.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_run_leaves_no_worker(tmp_path: Path) -> None:
    with run_script(
        "from ttc_jax.tasks.grading import Grader\n"
        "grader = Grader(workers=1, seconds=1.0)\n"
        "grader.judge('2', [r'\\sqrt{4}'])\n"
        "print(grader._workers[0]._process.pid, flush=True)\n"
        "grader.judge('2', [r'9^{9^{9^{9^{9}}}}'])\n",
        tmp_path,
    ) as script:
        assert script.stdout is not None
        worker = Path(f"/proc/{int(script.stdout.readline())}/stat")
        assert worker.exists()
        os.kill(script.pid, signal.SIGKILL)
        script.wait()
    until = time.monotonic() + 60.0  # a second of its own, on however busy a machine
    while worker.exists() and not re.search(r"\) Z ", worker.read_text()):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="bounds"):
        Grader(seconds=0)
    with Grader(workers=1, megabytes=24) as grader, pytest.raises(UserError, match="24 MB"):
        grader.judge("1", ["\\sqrt{2}"])
