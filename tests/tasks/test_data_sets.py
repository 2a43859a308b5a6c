"""The data sets: rows from files and from TFDS, and the gold answers of the real data."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ttc_jax.errors import UserError
from ttc_jax.tasks import load_task
from ttc_jax.tasks.competitions import AIME24, AIME25, AIME26, AMC23
from ttc_jax.tasks.data_set import DataSet
from ttc_jax.tasks.extraction import boxed
from ttc_jax.tasks.grading import Grader
from ttc_jax.tasks.gsm8k import GSM8K
from ttc_jax.tasks.math import Math
from ttc_jax.tasks.task import Question, Verdict

GSM8K_ROWS = [
    {
        "question": "Two boxes hold 600 eggs each. How many eggs are there — all in all?",
        "answer": "There are 2*600 = <<2*600=1200>>1,200 eggs.\n#### 1,200",
    },
    {"question": "It was 3 degrees and fell by 8. What is it now?", "answer": "3-8=-5\n#### -5"},
]
MATH_ROWS = [
    {
        "problem": "What is half of $\\sqrt{8}$?",
        "solution": "It is $\\frac{\\sqrt{8}}{2}=\\boxed{\\sqrt{2}.}$",
        "answer": "\\sqrt{2}",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1.json",
    },
    {
        "problem": "Solve $x+1=3$.",
        "solution": "$x=\\boxed{2}$",
        "answer": "2",
        "subject": "Algebra",
        "level": None,
        "unique_id": "test/algebra/2.json",
    },
]


def write(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_gsm8k(tmp_path: Path, grader: Grader) -> None:
    task = GSM8K(write(tmp_path / "test.jsonl", GSM8K_ROWS), grader=grader)
    first, second = task.questions("test")
    assert first == Question(
        id="gsm8k/test/1ef4926f3dc9",
        text="Two boxes hold 600 eggs each. How many eggs are there — all in all?",
        answer="1200",
        solution="There are 2*600 = 1,200 eggs.\n#### 1,200",
    )
    assert (second.id, second.answer) == ("gsm8k/test/520ff5169048", "-5")
    solutions = [
        "#### 1200",
        "\\boxed{\\$1,200.}",
        "7, so 1200",
        "#### 12",
        "\\boxed{7}\n#### 1200",
    ]
    solutions += ["none", "\\boxed{1,200 large eggs}", "#### **1200**", "\\boxed{1200 - 5 eggs}"]
    *judged, computed = task.judge(first, solutions)
    assert not computed.correct  # digits behind the numeral: no unit
    assert judged == [
        Verdict("1200", True),
        Verdict("1200", True),
        Verdict("1200", True),  # no mark: the last number
        Verdict("12", False),
        Verdict("7", False),
        Verdict(None, False),
        Verdict("1200", True),  # without its unit
        Verdict("1200", True),
    ]


def test_math(tmp_path: Path, grader: Grader) -> None:
    task = Math(write(tmp_path / "test.jsonl", MATH_ROWS), grader=grader)
    first, second = task.questions("test")
    assert first == Question(
        id="math/test/algebra/1.json",
        text="What is half of $\\sqrt{8}$?",
        answer="\\sqrt{2}",
        level="2",
        solution="It is $\\frac{\\sqrt{8}}{2}=\\boxed{\\sqrt{2}.}$",
    )
    assert second.level == ""
    verdicts = task.judge(first, [first.solution, "\\boxed{2^{1/2}}", "\\boxed{2}", "#### 2"])
    assert [v.correct for v in verdicts] == [True, True, False, False]
    assert verdicts[0].answer == verdicts[1].answer
    assert verdicts[3].answer is None


GSM8K_ANSWERS = [
    ("18", "#### Step 1: eggs\n16 - 7 = 9\n#### Step 2: money\n9 * 2 = 18. The answer is 18."),
    ("18", "#### Final answer: 18"),
    ("18", "#### Answer\n18"),
    ("18", "#### The answer is 18."),
    ("18", "#### 1. Eggs left\n16 - 7 = 9 eggs are left.\n#### 2. Money\nShe makes 9 * 2 = 18."),
    ("18", r"It is \boxed 18, in \boxed{answer} as asked."),
    ("18", r"\boxed{x = 18\text{ dollars}}"),
    ("18", r"<think>So \boxed{9}, no ... #### 7</think>She makes 18 dollars."),
    ("-3", "It falls to −3 degrees."),
    ("-3", "It is –3."),
    ("-3", "It is minus 3."),
    ("12", "3 kg of 4 makes 12kg"),
    ("12", "4 times 3 makes 12hrs."),
    ("1/3", "Each has 1/3 pound."),
    ("1/3", "#### 1/3 pound"),
    ("3/2", "It takes 1 1/2 cups."),
    ("0.5", "So it is .5"),
    ("1000", "That is 1e3."),
    ("1200000", "It costs 12,00,000 rupees."),
    ("1200", "It costs 1 200 euros."),
]


@pytest.mark.parametrize(("gold", "solution"), GSM8K_ANSWERS)
def test_gsm8k_answers(grader: Grader, gold: str, solution: str) -> None:
    """Right, and not for the answer with another sign or scale."""
    task = GSM8K(grader=grader)
    assert [v.correct for v in task.judge(Question("q", "", gold), [solution])] == [True]
    for other in (f"1{gold}", f"-{gold}".replace("--", "")):
        assert [v.correct for v in task.judge(Question("q", "", other), [solution])] == [False]


MATH_ANSWERS = [
    (r"16\pi", r"Final Answer: The final answer is $16\pi$. I hope it is correct."),
    ("12", "Therefore, $x^3=12$."),
    ("12", "The answer is 12."),
    (r"\frac{1}{2}", "**Answer:** $1/2$"),
    (r"\text{(B)}", "The answer is (B)."),
    (r"\text{no solution}", "The answer is no solution."),
    ("1,2", "Thus the roots are $1$ and $2$."),
]


@pytest.mark.parametrize(("gold", "solution"), MATH_ANSWERS)
def test_answers_without_a_box_are_marked_and_can_be_switched_off(
    grader: Grader, gold: str, solution: str
) -> None:
    question = Question("q", "", gold)
    [verdict] = Math(grader=grader).judge(question, [solution])
    assert verdict.correct
    assert verdict.unboxed
    off = load_task("math", grader=grader, unboxed=False)
    assert off.judge(question, [solution]) == [Verdict(None, False)]


def test_boxes_are_not_marked(grader: Grader) -> None:
    solutions = [
        r"$\boxed{1}$ or $\boxed{2}$",
        r"The answer is $3$, or \boxed{1,2}.",
        "",
        r"\boxed{3}",
    ]
    verdicts = Math(grader=grader).judge(Question("q", "", "1,2"), solutions)
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False]
    assert not any(verdict.unboxed for verdict in verdicts)
    gsm8k = GSM8K(grader=grader)
    solutions = ["#### 18", "It is 18.", r"\boxed{18}", "none"]
    verdicts = gsm8k.judge(Question("q", "", "18"), solutions)
    assert [verdict.unboxed for verdict in verdicts] == [True, True, False, False]
    gsm8k = GSM8K(grader=grader, unboxed=False)
    verdicts = gsm8k.judge(Question("q", "", "18"), [*solutions, "The answer is 18."])
    assert [verdict.correct for verdict in verdicts] == [True, False, True, False, False]


def test_a_box_in_an_unfinished_thought_is_no_answer(grader: Grader) -> None:
    solutions = [r"<think>It is \boxed{5}.", r"<think>\boxed{4}</think>\boxed{5}"]
    solutions += [r"It is \boxed{4}.</think>Therefore, $x=5$.", r"\boxed{5}</think>"]
    verdicts = Math(grader=grader).judge(Question("q", "", "5"), solutions)
    assert [verdict.correct for verdict in verdicts] == [False, True, True, False]
    assert [verdict.answer is None for verdict in verdicts] == [True, False, False, True]


class FirstLine(DataSet):
    """Reads answers in its own way."""

    name = "first_line"

    def final_answer(self, solution: str) -> str | None:
        return solution.partition("\n")[0] or None


def test_a_data_set_may_read_answers_itself(grader: Grader) -> None:
    task = FirstLine(grader=grader)
    solutions = ["5\n6", "", "<think>6\n</think>5"]
    verdicts = task.judge(Question("q", "", "5"), solutions)
    assert [verdict.correct for verdict in verdicts] == [True, False, True]


def test_math_rows_need_little(tmp_path: Path) -> None:
    rows = [{"problem": "a", "answer": 27.0}, {"problem": "b", "answer": 0.5, "level": "Level 5"}]
    task = Math(write(tmp_path / "test.jsonl", rows))
    assert task.questions("test") == [
        Question("math/test/a4da319cf1b8", "a", "27"),
        Question("math/test/7a8365cf6b28", "b", "0.5", level="Level 5"),
    ]


def test_each_split_has_its_file(tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", GSM8K_ROWS[:1])
    train = write(tmp_path / "train.jsonl", GSM8K_ROWS[1:])
    task = GSM8K(test, train)
    assert [q.answer for q in task.questions("train")] == ["-5"]
    assert [q.id for q in task.questions("train")] == ["gsm8k/train/520ff5169048"]
    with pytest.raises(UserError, match="split 'train'"):
        GSM8K(test).questions("train")
    with pytest.raises(UserError, match="choose from train, test"):
        GSM8K(test).questions("dev")


ROW = '{"question": "q", "answer": "#### 1"}'
MISTAKES: list[tuple[list[str], str]] = [
    ([ROW, "{'question': 1}"], ":2: not JSON"),
    ([ROW, "", ROW[:-5]], ":3: not JSON"),
    (["[" * 10**5], ":1: not JSON"),
    (["[1, 2]"], ":1: expected a JSON object"),
    (['{"question": "q"}'], ":1: field 'answer' is missing; found question"),
    (['{"question": " ", "answer": "#### 1"}'], ":1: field 'question' is empty"),
    (['{"question": ["q"], "answer": "#### 1"}'], "must be text, found list"),
    (['{"question": true, "answer": "#### 1"}'], "must be text, found bool"),
    (['{"question": "q", "answer": "it is 1"}'], ":1: field 'answer' must end with '#### n'"),
    (['{"question": "q", "answer": "####"}'], ":1: field 'answer' must end with '#### n'"),
    ([], "no questions"),
    (["", " "], "no questions"),
]


@pytest.mark.parametrize(("lines", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_name_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", lines)
    with pytest.raises(UserError) as error:
        GSM8K(path).questions("test")
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_mistakes_of_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: no such file"):
        Math(tmp_path / "none.jsonl").questions("test")
    with pytest.raises(UserError, match="not a file"):
        Math(tmp_path).questions("test")
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"problem": "é", "answer": "1"}\n'.encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.jsonl:1: not JSON"):
        Math(latin).questions("test")
    twice = write(tmp_path / "twice.jsonl", [MATH_ROWS[0], MATH_ROWS[0]])
    with pytest.raises(UserError, match=r"twice\.jsonl:2: a second question with the id"):
        Math(twice).questions("test")


def test_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + ROW.encode() + b"\r\n\r\n" + ROW.encode())
    assert [q.id for q in GSM8K(path).questions("test")] == [
        "gsm8k/test/29c74dca8820",
        "gsm8k/test/29c74dca8820-2",  # the same text a second time
    ]


def test_load_task(tmp_path: Path) -> None:
    path = str(write(tmp_path / "test.jsonl", MATH_ROWS))
    task = load_task("math", path=path)
    assert [q.answer for q in task.questions("test")] == ["\\sqrt{2}", "2"]
    with pytest.raises(UserError, match="did you mean 'gsm8k'"):
        load_task("gsm8")
    with pytest.raises(
        UserError, match="known: countdown, gsm8k, math, aime24, .*, gpqa, humaneval, .*, or"
    ):
        load_task("poetry")
    with pytest.raises(
        UserError, match=r"task\.paht: gsm8k has no such field; it has path, train_"
    ):
        load_task("gsm8k", paht=path)
    with pytest.raises(UserError, match=r"task\.name: 'no\.such:Task' cannot be imported"):
        load_task("no.such:Task")


# In a process of its own, as other tests may import TensorFlow.
BUILDERS = """
import sys
from unittest import mock
import tensorflow_datasets as tfds
from ttc_jax.errors import UserError
from ttc_jax.tasks.gsm8k import GSM8K
from ttc_jax.tasks.math import Math

folder = sys.argv[1]
for kind in (GSM8K, Math):
    files = {split: f"{folder}/{kind.name}_{split}.jsonl" for split in ("test", "train")}
    down = mock.patch.object(tfds.download.DownloadManager, "download")
    server = mock.patch("urllib.request.urlopen")
    with down as download, server as reached:
        for part, said in ((reached, "nobody there"), (download, "no network")):
            part.side_effect = OSError(said)
            try:
                kind().questions("test")
            except UserError as error:
                assert f"{kind.name} could not be downloaded ({said})" in str(error), error
            else:
                raise AssertionError("no error")
            assert download.called == (part is download)  # an absent server is not asked again
            part.side_effect = None
        download.side_effect = lambda urls: {s: files[s] for s in urls}
        for split in files:
            ours = kind(files["test"], files["train"]).questions(split)
            assert kind().questions(split) == ours, (kind().questions(split), ours)
        [urls] = {tuple(call.args[0].values()) for call in download.call_args_list}
    assert all(url.startswith("https://") and url.endswith(".jsonl") for url in urls)
assert "tensorflow" not in sys.modules
assert "jax" not in sys.modules
"""


def in_a_process(program: str, folder: Path) -> None:
    environment = {"PATH": "", "TFDS_DATA_DIR": str(folder / "tfds"), "HOME": str(folder)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_tfds_gives_the_same_questions_without_tensorflow(tmp_path: Path) -> None:
    for name, rows in (("gsm8k", GSM8K_ROWS), ("math", MATH_ROWS)):
        write(tmp_path / f"{name}_test.jsonl", rows)
        many: list[dict[str, Any]] = [
            {**rows[0], **({"unique_id": f"{i}"} if name == "math" else {"question": f"q{i}"})}
            for i in range(30)
        ]
        write(tmp_path / f"{name}_train.jsonl", many)
    in_a_process(BUILDERS, tmp_path)


# What a server gives is the file that was meant, or it is refused.
SUMS = """
import hashlib, os, sys, threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from ttc_jax.errors import UserError
from ttc_jax.tasks.data_set import DataSet, Download
from ttc_jax.tasks.task import Question

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=sys.argv[1]))
threading.Thread(target=server.serve_forever, daemon=True).start()
rows = open(f"{sys.argv[1]}/small.jsonl", "rb").read()
good = Download(
    "test",
    f"http://127.0.0.1:{server.server_port}/small.jsonl",
    len(rows),
    hashlib.sha256(rows).hexdigest(),
)

class Small(DataSet):
    "One row."

    name = "small"
    splits = ("test",)
    downloads = (good._replace(sha256="0" * 64),)

try:
    Small().questions("test")
except UserError as error:
    assert "small.jsonl is not the file that it was" in str(error), error
else:
    raise AssertionError("no error")
Small.downloads = (good,)
[question] = Small().questions("test")
assert question == Question("small/test/fd0965aa3fba", "What is 1+1?", "2")
server.shutdown()
server.server_close()
"""


def test_a_download_that_is_not_the_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "small.jsonl", [{"problem": "What is 1+1?", "answer": 2}])
    in_a_process(SUMS, tmp_path)


@pytest.mark.parametrize("kind", [AIME24, AIME25, AIME26, AMC23])
def test_competitions(tmp_path: Path, grader: Grader, kind: type[DataSet]) -> None:
    rows = [{"id": 7, "problem": "What is $26+1$?", "answer": 27.0, "url": "https://example.org"}]
    rows.append({"id": 8, "question": "What is $3^2-2$?", "answer": "007", "solution": ""})
    task = kind(write(tmp_path / "test.jsonl", rows), grader=grader)
    first, second = task.questions("test")
    assert first == Question(f"{kind.name}/test/9e5a9673bde7", "What is $26+1$?", "27")
    assert (second.id, second.answer) == (f"{kind.name}/test/c4d40576428f", "007")
    solutions = [r"\boxed{27.}", r"\boxed{27.0}", r"so \boxed{\frac{54}{2}}", r"\boxed{72}", "27"]
    assert [v.correct for v in task.judge(first, solutions)] == [True, True, True, False, False]
    assert task.judge(second, [r"\boxed{7}"]) == [Verdict("7", True)]
    with pytest.raises(UserError, match="choose from test"):
        task.questions("train")
    with pytest.raises(UserError, match=r"train_path=.*has no split 'train'"):
        kind(train_path=tmp_path / "test.jsonl")


def test_what_is_not_downloaded_says_how_to_get_it() -> None:
    with pytest.raises(UserError) as error:
        AMC23().questions("test")
    assert str(error.value) == (
        "amc23 is not downloaded: set task.path to a JSONL file with problem and answer in each "
        "row, such as the Hugging Face data set math-ai/amc23 saved as JSON lines"
    )


def test_competition_golds(data_dir: Path, grader: Grader) -> None:
    for kind, rows in ((AIME24, 30), (AIME25, 30), (AMC23, 40)):
        task = kind(data_dir / f"{kind.name}.jsonl", grader=grader)
        questions = task.questions("test")
        assert len(questions) == rows
        for question in questions:
            assert float(question.answer).is_integer(), question
            assert "." not in question.answer
            boxes = [rf"\boxed{{{question.answer}}}", rf"$\boxed{{{question.answer}.0}}.$"]
            assert all(verdict.correct for verdict in task.judge(question, boxes))


def test_gsm8k_golds(data_dir: Path, grader: Grader) -> None:
    task = GSM8K(data_dir / "gsm8k_test.jsonl", data_dir / "gsm8k_train.jsonl", grader=grader)
    for split, rows in (("test", 1000), ("train", 7473)):
        questions = task.questions(split)
        assert len(questions) == rows
        right = [task.judge(q, [q.solution])[0] for q in questions]
        assert all(v == Verdict(q.answer, True) for v, q in zip(right, questions, strict=True))


def _as_is(solution: str) -> str:
    return solution


def _full_stop(solution: str) -> str:
    answer = boxed(solution) or ""
    start = solution.rindex(answer)
    return f"{solution[:start]}{answer}.{solution[start + len(answer) :]}"


def _spelt_otherwise(solution: str) -> str:
    """Nothing is plain text any more: math-verify has to agree."""
    return f"\\boxed{{\\displaystyle {boxed(solution)}}}"


@pytest.mark.parametrize("change", [_as_is, _full_stop, _spelt_otherwise])
def test_math_golds(data_dir: Path, grader: Grader, change: Callable[[str], str]) -> None:
    task = Math(data_dir / "math500_test.jsonl", grader=grader)
    questions = task.questions("test")
    verdicts = [task.judge(q, [change(q.solution)])[0] for q in questions]
    assert sum(v.correct for v in verdicts) == 500
    assert len({q.level for q in questions}) == 5
    assert not any(q.answer in grader.unparsed for q in questions)
