"""Records as training sees them, and the questions it does not see."""

import dataclasses
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.training.toy import (
    DELIMITER,
    END,
    PROMPT,
    TOKENIZER,
    candidate,
    collected,
    record,
    sampled,
)
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.results.store import ResultsStore
from ttc_jax.tasks.countdown import Countdown
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.training import data
from ttc_jax.training.batches import Example

QUESTIONS = Countdown(size=6).questions("train")
ASKED = Question("t/0", "01 01=02:", "02")
EXAMPLE = Example(np.array([1]), np.zeros(1), np.ones(1), 1)


def test_records_are_read_question_by_question(tmp_path: Path):
    one, other, third = (sampled(QUESTIONS[i], seed) for i, seed in ((4, 1), (2, 0), (4, 0)))
    chains = sampled(QUESTIONS[0], sequential=2)
    ResultsStore(tmp_path).append([one, other, third, chains])
    found = data.read(str(tmp_path), QUESTIONS, PROMPT, TOKENIZER)
    assert [x.question for x in found] == [QUESTIONS[i].id for i in (0, 2, 4)]
    for x, i in zip(found, (0, 2, 4), strict=True):
        assert x.prompt == TOKENIZER.encode(QUESTIONS[i].text)
    assert found[0].chains == [chains.candidates[:2], chains.candidates[2:]]
    assert found[1].chains == [(c,) for c in other.candidates]
    assert found[2].chains == [(c,) for c in (*third.candidates, *one.candidates)]  # by seed


@pytest.mark.parametrize(
    ("prompt", "between"), [(PROMPT, ""), (PromptFormat("{question}", revision="\n=\n"), "\n=\n")]
)
def test_answers_stand_behind_the_four_before_them(prompt: PromptFormat, between: str):
    chain = [candidate(f"{i}\n\\boxed{{0{i}}}", "05") for i in range(6)]
    of_question = dataclasses.replace(
        collected(ASKED, chain), between=prompt.between(TOKENIZER) if between else [END]
    )
    rows = list(of_question.answers(DELIMITER))
    assert [answer for _, answer, _ in rows] == chain
    for i, (context, answer, ends) in enumerate(rows):
        expected = TOKENIZER.encode(ASKED.text)
        for j in range(max(0, i - 4), i):
            expected += TOKENIZER.encode(f"{j}\n\\boxed{{0{j}}}{between}") + [END] * (not between)
        assert context == expected
        assert ends == [1, len(answer.tokens) - 1]


def test_answers_that_could_not_be_parsed_are_context_alone():
    cut = candidate("1\n2", finished=False)
    rows = list(collected(ASKED, [cut, candidate("\\boxed{02}", "02")]).answers(DELIMITER))
    [(context, answer, _)] = rows
    assert answer.correct
    assert context == [*TOKENIZER.encode(ASKED.text + "1\n2"), END]


def test_what_cannot_be_read_is_named(tmp_path: Path):
    def read(tokenizer=TOKENIZER):
        return data.read(str(tmp_path), QUESTIONS[:2], PROMPT, tokenizer)

    with pytest.raises(UserError, match=f"data.path={tmp_path}: holds no records"):
        read()
    ResultsStore(tmp_path).append([sampled(QUESTIONS[0])])
    shuffled = CharTokenizer(TOKENIZER.pieces[::-1])
    fewer = CharTokenizer(TOKENIZER.pieces[:5])
    for other in (shuffled, fewer):
        with pytest.raises(UserError, match=f"{QUESTIONS[0].id}' are in another vocabulary"):
            read(other)
    ResultsStore(tmp_path).append([record("gsm8k/train/0", [candidate("\\boxed{02}")])])
    with pytest.raises(UserError, match="'gsm8k/train/0' is no question of this task and split"):
        read()


@hypothesis.given(st.sets(st.text(max_size=6), max_size=30), st.floats(0.05, 0.95))
def test_a_question_is_on_one_side_whatever_others_there_are(questions, held_out):
    def sides(names) -> dict[str, bool]:
        train, validation = data.split({name: [EXAMPLE] for name in names}, held_out)
        assert not train.keys() & validation.keys()
        return dict.fromkeys(train, False) | dict.fromkeys(validation, True)

    always = {f"t/{i}" for i in range(300)}  # some of them on either side
    found, fewer = sides(always | questions), sides(always)
    assert found.keys() == always | questions
    assert fewer.items() <= found.items()


def test_the_share_of_questions_is_held_out():
    names = {f"countdown/train/0/{i}": [EXAMPLE] for i in range(5000)}
    _, validation = data.split(names, 0.1)
    assert len(validation) == pytest.approx(500, abs=80)
    _, more = data.split(names, 0.2)
    assert validation.keys() < more.keys()


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (0.0, "data.held_out is 0.0; it must lie between 0 and 1"),
        (1.0, "data.held_out is 1.0; it must lie between 0 and 1"),
        (1e-9, "leaves 3 questions to train on and 0 to validate with"),
    ],
)
def test_shares_that_leave_nothing_are_refused(held_out, message):
    with pytest.raises(UserError, match=message):
        data.split({name: [EXAMPLE] for name in "abc"}, held_out)
