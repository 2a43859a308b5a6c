"""From a search's outcomes to graded records."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tasks.boxed import Boxed
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.experiments.recorder import Recorder, keep_prompts
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.search.search import Failed, SearchResult
from ttc_jax.search.strategies.beam import Beam
from ttc_jax.tasks.countdown import PIECES
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question

TOKENIZER = CharTokenizer(PIECES)
ANSWERS = ("1\n\\boxed{12}", "\\boxed{13}", "77")  # of every question; the last is cut off
QUESTIONS = [
    Question(f"q/{i}", "1" * length, "12" if i % 2 else "13", level=str(i))
    for i, length in enumerate([5, 30, 40, 6])
]


class Recited:
    """A search that knows its answers, and is done with the last question first."""

    adapter = None
    plan = SimpleNamespace(between=[1], strategy=Beam(2))

    def __init__(
        self, failing: int = -1, sequential: int = 1, revisions: int = 1, thoughts: tuple = ()
    ):
        self.thoughts = thoughts
        self.numbers: dict[int, int] = {}
        self.failing, self.sequential, self.revisions = failing, sequential, revisions

    def check(self, prompt, shown=None):
        if len(prompt) > 90:
            raise UserError("a prompt is too long")

    def run(self, prompts, numbers, shown=None, *, seed=None, deadline=None):
        answers = [TOKENIZER.encode(answer) for answer in ANSWERS]
        answers = [[*answer, 1] for answer in answers[:-1]] + answers[-1:]
        tokens = np.zeros((len(answers), 12), np.int32)
        scored = np.zeros(tokens.shape, bool)
        for n, answer in enumerate(answers):
            tokens[n, : len(answer)] = answer
            scored[n, len(answer) - 1] = True
        scored[0, 1] = True
        for index in reversed(range(len(prompts))):
            self.numbers[len(prompts[index])] = numbers[index]
            if index == self.failing:
                raise Failed(index)
            yield (
                index,
                SearchResult(
                    tokens=tokens,
                    lengths=np.array([len(answer) for answer in answers]),
                    log_prob=np.array([-1.0 * len(prompts[index]), -2.5, -0.25], np.float32),
                    finished=np.array([True, True, False]),
                    step_scores=np.where(scored, 0.25, np.nan),
                    scored=scored,
                    trace=None,  # type: ignore[arg-type]
                    ledger=Ledger(generations=6, decode_tokens=len(prompts[index])),
                    question_score=0.75,
                    sequential=self.sequential,
                    revisions=self.revisions,
                    thoughts=self.thoughts,
                ),
            )


def recorder(**options: Any) -> tuple[Recorder, Recited]:
    recited: Any = Recited(**options)
    return Recorder(Boxed(), TOKENIZER, PromptFormat(), recited, "beam", seed=7), recited


def test_what_a_record_says():
    records = list(recorder()[0].run(recorder()[0].encode(QUESTIONS)))
    assert [record.question for record in records] == [q.id for q in QUESTIONS[::-1]]
    for question, record in zip(QUESTIONS[::-1], records, strict=True):
        assert record.key == (question.id, "beam", 6, 7)
        assert record.level == question.level
        assert record.question_score == 0.75
        assert record.seconds > 0
        assert record.ledger == Ledger(generations=6, decode_tokens=len(question.text))
        assert [c.text for c in record.candidates] == list(ANSWERS)
        assert [c.answer for c in record.candidates] == ["12", "13", None]
        right = [question.answer == answer for answer in ("12", "13")]
        assert [c.correct for c in record.candidates] == [*right, False]
        assert [c.finished for c in record.candidates] == [True, True, False]
        assert [c.tokens[-1] == 1 for c in record.candidates] == [True, True, False]
        assert [c.log_prob for c in record.candidates] == [-len(question.text), -2.5, -0.25]
        assert [c.step_scores for c in record.candidates] == [(0.25, 0.25), (0.25,), (0.25,)]


def test_a_question_is_drawn_by_its_id_alone():
    numbers = {}
    for questions in (QUESTIONS, QUESTIONS[::-1], QUESTIONS[1:3]):
        recording, recited = recorder()
        list(recording.run(recording.encode(questions)))
        for length, number in recited.numbers.items():
            assert numbers.setdefault(length, number) == number
    assert len(set(numbers.values())) == len(QUESTIONS)
    assert all(0 <= number < 2**32 for number in numbers.values())


def test_a_prompt_that_does_not_fit_is_named():
    with pytest.raises(UserError, match="q/9: a prompt is too long"):
        recorder()[0].encode([*QUESTIONS, Question("q/9", "1" * 91, "12")])


def test_a_text_that_the_tokenizer_does_not_know_is_named():
    with pytest.raises(UserError, match="q/9: the tokenizer does not know the character 'é'"):
        recorder()[0].encode([*QUESTIONS, Question("q/9", "é", "12")])


def test_the_first_prompts_are_kept_once(tmp_path: Path):
    recording, _ = recorder()
    prompted = recording.encode(QUESTIONS)
    keep_prompts(tmp_path / "w", prompted, TOKENIZER)
    written = (tmp_path / "w" / "prompts.txt").read_text()
    for question, tokens, _ in prompted[:3]:
        entry = [f"--- {question.id}, {len(tokens)} tokens", question.text, "--- its token ids"]
        assert "\n".join([*entry, " ".join(map(str, tokens))]) in written
    assert QUESTIONS[3].id not in written
    keep_prompts(tmp_path / "w", prompted[3:], TOKENIZER)
    assert (tmp_path / "w" / "prompts.txt").read_text() == written
    keep_prompts(tmp_path / "none", [], TOKENIZER)
    assert not (tmp_path / "none").exists()


def test_a_score_that_is_nan_names_the_question_and_keeps_what_was_done():
    recording, _ = recorder(failing=1)
    records = recording.run(recording.encode(QUESTIONS))
    assert [next(records).question for _ in range(2)] == ["q/3", "q/2"]
    with pytest.raises(UserError, match="q/1: a step's score is NaN"):
        next(records)


class Thinker(Boxed):
    """Keeps what it is asked to judge."""

    def judge(self, question, solutions):
        self.judged = list(solutions)
        return super().judge(question, solutions)


@pytest.mark.parametrize(
    ("template", "options", "opened"),
    [
        ("{question}", {}, [False, False, False]),
        ("{question}<think>\n", {}, [True, True, True]),
        ("{question}<think>\n1</think>", {}, [False, False, False]),
        ("{question}<think>\n1", {}, [False, False, False]),
        ("<think>{question}", {}, [False, False, False]),
        # The others stand behind earlier answers and an end token.
        ("{question}<think>", {"sequential": 3, "revisions": 3}, [True, False, False]),
        ("{question}<think>", {"revisions": 3}, [True, False, False]),
    ],
)
def test_a_thought_that_the_prompt_opened_is_judged_as_one(
    template: str, options: dict[str, Any], opened: list[bool]
):
    tokenizer, task = CharTokenizer([*PIECES, "<think>", "</think>"]), Thinker()
    recited: Any = Recited(**options)
    recording = Recorder(task, tokenizer, PromptFormat(template), recited)
    (record,) = recording.run(recording.encode(QUESTIONS[:1]))
    assert record.strategy == "beam"  # as the search's, since none was given
    marks = ["<think>" if it else "" for it in opened]
    assert task.judged == [mark + text for mark, text in zip(marks, ANSWERS, strict=True)]
    assert [c.text for c in record.candidates] == list(ANSWERS)


def test_answers_alone_are_graded_where_thoughts_are_told_apart_by_tokens():
    """Of the texts' marks nothing is asked: special tokens have none."""
    task, thoughts = Thinker(), (len(TOKENIZER.encode("1\n")), 0, len(TOKENIZER.encode("77")))
    recited: Any = Recited(thoughts=thoughts)
    recording = Recorder(task, TOKENIZER, PromptFormat(), recited)
    (record,) = recording.run(recording.encode(QUESTIONS[:1]))
    assert task.judged == ["\\boxed{12}", "\\boxed{13}", ""]
    assert [c.text for c in record.candidates] == list(ANSWERS)
    assert tuple(c.thought for c in record.candidates) == thoughts
    assert [c.answer for c in record.candidates] == ["12", "13", None]
