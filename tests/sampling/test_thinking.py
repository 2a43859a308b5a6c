"""Thinking budgets, against an oracle that keeps each row's thought in plain Python."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.oracle import TINY, Answer, Oracle, tiny_generator
from ttc_jax.errors import UserError
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.tokenizers import load_tokenizer
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.keys import candidate_keys
from ttc_jax.sampling.rollouts import Rollouts
from ttc_jax.sampling.sampler import Sampler, Samples
from ttc_jax.sampling.thinking import Phase, Thinking, ThinkingFormat

OPEN, CLOSE, BLANK, ENDS = 1, 2, 3, (5, 6)
CLOSING, WAIT = (20, CLOSE, 21, 22), (23, 24)
LONGEST, CANDIDATES, BATCH, SEED = 24, 3, 4, 4
MARKED = Thinking(CLOSE, OPEN, CLOSING, WAIT, blanks=(BLANK,), ends=ENDS)
UNMARKED = dataclasses.replace(MARKED, open=None)
# Opened by the prompt, not opened, closed by the prompt, and opened with a blank behind.
PROMPTS = [[7, OPEN], [OPEN, 9, 9], [4, OPEN, BLANK, CLOSE, BLANK, BLANK], [8, 8, OPEN, BLANK]]
PHASES = [Phase.INSIDE, Phase.BEFORE, Phase.BEHIND, Phase.INSIDE]
NUMBERS = (11, 2**32 - 1, 0, 3)
BUDGETS = [(0, None), (0, 0), (0, 1), (1, 1), (6, 6), (5, 11), (16, None), (9, 10), (17, 18)]


@pytest.fixture(scope="module")
def model():
    return tiny_generator(dataclasses.replace(TINY, depth=1, windows=(6,), ropes=()))


@pytest.fixture(scope="module")
def oracle(model) -> Oracle:
    return Oracle(model, len(BUDGETS) * BATCH * CANDIDATES, 8 + LONGEST)


def make_sampler(model, thinking: Thinking | None, **changes) -> Sampler:
    options = {
        "end_tokens": ENDS,
        "candidates": CANDIDATES,
        "max_new_tokens": LONGEST,
        "batch": BATCH,
        "seed": SEED,
    }
    return Sampler(model, thinking=thinking, **options | changes)


@pytest.fixture(scope="module")
def sampler(model) -> Sampler:
    return make_sampler(model, MARKED)


class Mind:
    """The thought of a row, told token by token."""

    def __init__(self, thinking: Thinking, phase: Phase):
        self.inside, self.behind = phase == Phase.INSIDE, phase == Phase.BEHIND
        self.thinking, self.thought, self.queue, self.closing = thinking, 0, [], False
        self.waits = 0  # how often it was made to think on

    def write(self, drawn: int) -> int:
        most, least = self.thinking.maximum, self.thinking.minimum
        if self.inside and not self.closing and most is not None and self.thought >= most:
            self.closing, self.queue = True, list(self.thinking.closing)
        elif self.inside and not self.queue and self.thought < least and drawn in (CLOSE, *ENDS):
            self.queue, self.waits = list(self.thinking.continuation), self.waits + 1
        token = self.queue.pop(0) if self.queue else drawn
        if self.inside:
            self.thought += not self.closing
        if token == CLOSE and not self.behind:
            self.inside, self.behind = False, True
        elif token == OPEN and not self.inside and not self.behind and self.thinking.open:
            self.inside = True
        return token


def expected(
    oracle: Oracle, budgets: Sequence[Thinking], sampling: SamplingParams = SamplingParams()
) -> list[tuple[list[Answer], list[Mind]]]:
    """For each budget the answers of all rows, and their minds."""
    keys = candidate_keys(SEED, jnp.array(NUMBERS, jnp.uint32), CANDIDATES)
    rows, minds = [], []
    for budget in budgets:
        for prompt, phase, of in zip(PROMPTS, PHASES, keys, strict=True):
            if budget.open is None and phase == Phase.BEFORE:
                phase = Phase.INSIDE
            rows += [(prompt, key, []) for key in of]
            minds += [Mind(budget, phase) for _ in of]
    answers = oracle.write(
        rows,
        max_new_tokens=LONGEST,
        end_tokens=ENDS,
        sampling=sampling,
        writes=[mind.write for mind in minds],
    )
    R = BATCH * CANDIDATES
    return [(answers[i : i + R], minds[i : i + R]) for i in range(0, len(rows), R)]


def assert_as_oracle(samples: Samples, answers: Sequence[Answer]) -> None:
    for row, answer in enumerate(answers):
        at = divmod(row, CANDIDATES)
        length = samples.lengths[at]
        assert samples.tokens[at][:length].tolist() == answer.tokens
        assert samples.finished[at] == answer.finished
        assert samples.log_prob[at] == pytest.approx(answer.log_prob, rel=1e-4)


def with_budgets(thinking: Thinking) -> list[Thinking]:
    return [dataclasses.replace(thinking, minimum=m, maximum=M) for m, M in BUDGETS]


def test_thoughts_are_those_of_the_oracle(model, oracle, sampler):
    """Twelve rows for each of eighteen pairs of a minimum and a maximum."""
    seen: set[tuple[bool, ...]] = set()
    for thinking in (MARKED, UNMARKED):
        drawing, budgets = make_sampler(model, thinking), with_budgets(thinking)
        for budget, (answers, minds) in zip(budgets, expected(oracle, budgets), strict=True):
            assert_as_oracle(drawing.sample(PROMPTS, NUMBERS, thinking=budget), answers)
            seen |= {(mind.closing, mind.waits > 0, mind.behind) for mind in minds}
    assert len(seen) > 5  # what there is to tell apart was there


def test_a_row_thinks_no_less_than_its_minimum_and_no_more_than_its_maximum(sampler):
    """Exact to the token, said without the oracle: from the texts alone."""
    for least, most in [(0, 0), (4, 9), (7, 7)]:
        budget = dataclasses.replace(MARKED, minimum=least, maximum=most)
        samples = sampler.sample(PROMPTS, NUMBERS, thinking=budget)
        for i, n in np.ndindex(BATCH, CANDIDATES):
            row = samples.tokens[i, n, : samples.lengths[i, n]].tolist()
            if PHASES[i] == Phase.INSIDE and CLOSE not in row:
                assert row[-1] in ENDS  # it ended within its thought
                assert least < len(row) <= most
            elif PHASES[i] == Phase.INSIDE:
                thought = row[: row.index(CLOSE)]
                cut = row[most : most + len(CLOSING)] == list(CLOSING)
                assert cut or least <= len(thought) <= most
                assert len(thought) <= most + CLOSING.index(CLOSE)
                assert budget.thought_of(row, PROMPTS[i]) == len(thought) + 1
            elif PHASES[i] == Phase.BEHIND:
                assert budget.thought_of(row, PROMPTS[i]) == 0


def test_a_stop_text_ends_an_answer_and_no_thought(model, sampler):
    """Rows are those that know no stop text, cut at the first one behind their thought."""
    stops = (*range(7, 14), *WAIT, OPEN, CLOSE)
    stopping, cuts = make_sampler(model, MARKED, end_tokens=(*ENDS, *stops)), 0
    for least, most in [(0, None), (6, 6), (5, 11), (16, None)]:
        budget = dataclasses.replace(MARKED, minimum=least, maximum=most)
        wholes = sampler.sample(PROMPTS, NUMBERS, thinking=budget)
        found = stopping.sample(PROMPTS, NUMBERS, thinking=budget)
        for i, n in np.ndindex(BATCH, CANDIDATES):
            row = wholes.tokens[i, n, : wholes.lengths[i, n]].tolist()
            begun = budget.thought_of(row, PROMPTS[i])
            if budget.is_before(row, PROMPTS[i]):
                begun = len(row)  # it may yet begin a thought
            end = next((j + 1 for j in range(begun, len(row)) if row[j] in stops), len(row))
            assert found.tokens[i, n, : found.lengths[i, n]].tolist() == row[:end]
            last = ENDS if begun == len(row) else (*ENDS, *stops)
            assert found.finished[i, n] == (row[end - 1] in last)
            cuts += end < len(row) and begun > 0
    assert cuts > 5


def test_budgets_change_without_a_compilation_or_a_hidden_transfer(sampler):
    sampler.sample(PROMPTS, NUMBERS)
    with jax.transfer_guard("disallow"):
        for budget in with_budgets(MARKED):
            sampler.sample(PROMPTS, NUMBERS, thinking=budget)
    assert sampler.compilations == sampler._start._cache_size() == 1
    assert sampler._decode._cache_size() == 1


@pytest.mark.parametrize("rows", [[2], [3, 0], [3, 2, 1, 0]], ids=str)
def test_a_row_does_not_mind_its_company(sampler, rows):
    """Bit for bit, log-probabilities too."""
    budget = dataclasses.replace(MARKED, minimum=5, maximum=11)
    every = sampler.sample(PROMPTS, NUMBERS, thinking=budget)
    some = sampler.sample([PROMPTS[i] for i in rows], [NUMBERS[i] for i in rows], thinking=budget)
    for whole, part in zip(every, some, strict=True):
        np.testing.assert_array_equal(whole[rows], part)


def test_rows_without_a_thought_are_those_of_a_sampler_that_knows_none(model, sampler):
    plain = make_sampler(model, None).sample(PROMPTS, NUMBERS)
    found = sampler.sample(PROMPTS, NUMBERS)  # no minimum, no maximum: nothing is forced
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("answer", "prompt", "thought"),
    [
        ([9, CLOSE, 9], [OPEN], 2),
        ([9, 9], [OPEN, BLANK], 2),
        ([9, CLOSE, 9], [OPEN, CLOSE], 0),
        ([OPEN, 9, CLOSE, 9, CLOSE], [9], 3),
        ([9, OPEN, 9], [9], 3),
        ([9, 9], [OPEN, 9], 0),
        ([CLOSE, 9], [9], 1),
        ([], [OPEN], 0),
    ],
)
def test_a_thought_ends_behind_its_first_closing_mark(answer, prompt, thought):
    assert MARKED.thought_of(answer, prompt) == thought


def test_marks_and_texts_are_read_by_the_tokenizer():
    tokenizer = CharTokenizer(["<think>", "</think>", " ", "\n", *"Waitx"])
    found = ThinkingFormat(closing="x\n</think>\n", maximum=4).tokens(tokenizer)
    marks = tokenizer.encode("<think></think>")
    assert [found.open, found.close] == marks
    assert tokenizer.decode(found.closing) == "x\n</think>\n"
    assert tokenizer.decode(found.continuation) == "Wait"
    assert found.phase_behind(tokenizer.encode("x<think>\n ")) == Phase.INSIDE
    assert found.phase_behind(tokenizer.encode("<think>\n</think>\n")) == Phase.BEHIND
    assert found.phase_behind(tokenizer.encode("<think>x")) == Phase.BEFORE
    assert ThinkingFormat(open="").tokens(tokenizer).phase_behind([]) == Phase.INSIDE
    assert ThinkingFormat().tokens(tokenizer).closing == (marks[1],)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"close": "xx"}, "thinking.close=xx: must be one token of the model, and is 2"),
        ({"open": "ax"}, "thinking.open=ax: must be one token"),
        ({"open": "</think>"}, "are one token; they must differ"),
        ({"closing": "x"}, "thinking.closing must hold the mark"),
        ({"closing": "</think></think>"}, "thinking.closing must hold the mark"),
        ({"continuation": "x</think>"}, "thinking.continuation must not hold the mark"),
        ({"continuation": "", "minimum": 1}, "thinking.minimum is 1: thinking.continuation must"),
        ({"minimum": 3, "maximum": 2}, "thinking.minimum is 3; it must not be above"),
        ({"minimum": -1}, "must be 0 or more"),
        ({"maximum": -1}, "must be 0 or more"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message):
    tokenizer = CharTokenizer(["<think>", "</think>", *"Waitx"])
    with pytest.raises(UserError, match=message):
        ThinkingFormat(**arguments).tokens(tokenizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minimum": "3"}, "thinking.minimum is '3'; it must be a whole number"),
        ({"minimum": 1.5}, "thinking.minimum is 1.5; it must be a whole number"),
        ({"minimum": None}, "thinking.minimum is None; it must be a whole number"),
        ({"maximum": True}, "thinking.maximum is True; it must be a whole number"),
        ({"maximum": float("nan")}, "thinking.maximum is nan; it must be a whole number"),
        ({"maximum": 2**31}, "thinking.maximum is 2147483648; it must be at most 2147483647"),
        ({"minimum": 2**70}, "thinking.minimum is 1180591620717411303424; it must be at most"),
        ({"minimum": -1}, "thinking.minimum is -1; it must be 0 or more"),
        ({"close": 3}, "thinking.close is 3; it must be text"),
        ({"open": None}, "thinking.open is None; it must be text"),
        ({"closing": b"x"}, "thinking.closing is b'x'; it must be text"),
        ({"continuation": None}, "thinking.continuation is None; it must be text"),
        ({"steps": "a"}, "thinking.steps is 'a'; it must be True or False"),
        ({"steps": 1}, "thinking.steps is 1; it must be True or False"),
    ],
)
def test_a_format_that_cannot_be_is_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        ThinkingFormat(**arguments)
    assert "\n" not in str(caught.value)


def test_budgets_may_be_numpys_numbers():
    found = ThinkingFormat(minimum=np.int64(3), maximum=np.uint8(4))  # pyright: ignore[reportArgumentType]
    assert found == ThinkingFormat(minimum=3, maximum=4)
    assert {type(found.minimum), type(found.maximum)} == {int}


@pytest.mark.parametrize(
    ("thinking", "message"),
    [
        (dataclasses.replace(MARKED, maximum=19), "thinking.maximum is 19: with 5 tokens of marks"),
        (dataclasses.replace(MARKED, minimum=22), "thinking.minimum is 22: with 2 tokens of marks"),
        (
            dataclasses.replace(MARKED, continuation=(9, 5)),
            "thinking.continuation: the token 5 ends a sequence",
        ),
        (
            dataclasses.replace(MARKED, closing=(CLOSE, 21), maximum=2, ends=()),
            "thinking.closing: its token 21, behind the mark, ends an answer",
        ),
        (Thinking(CLOSE, TINY.vocab_size), "the marks holds the token 37"),
    ],
)
def test_a_sampler_refuses_what_it_cannot_do(model, sampler, thinking, message):
    with pytest.raises(UserError, match=message):
        make_sampler(model, thinking, end_tokens=(*ENDS, 21))
    with pytest.raises(UserError, match="thinking"):
        sampler.sample(PROMPTS, NUMBERS, thinking=thinking)
    with pytest.raises(UserError, match="rollouts do not"):
        Rollouts(model, ends=1, slots=1, rows=1, thinking=MARKED, **ROLLOUTS)


ROLLOUTS = {"end_tokens": ENDS, "candidates": 1, "max_new_tokens": LONGEST}


@pytest.mark.skipif("TTC_TOKENIZERS" not in os.environ, reason="needs Qwen3's tokenizer")
def test_a_real_template_says_where_an_answer_begins():
    """Qwen3 opens its thought itself; without thinking its template writes an empty one."""
    tokenizer = load_tokenizer(Path(os.environ["TTC_TOKENIZERS"]) / "qwen3")
    found = ThinkingFormat(closing="\n</think>\n\n", continuation="\nWait").tokens(tokenizer)
    assert (found.open, found.close) == (151667, 151668)
    assert found.closing == tuple(tokenizer.encode("\n</think>\n\n"))
    turns = [{"role": "user", "content": "1+1? <think>"}]
    for arguments, phase in (
        ({}, Phase.BEFORE),
        ({"enable_thinking": True}, Phase.BEFORE),
        ({"enable_thinking": False}, Phase.BEHIND),
    ):
        prompt = tokenizer.chat(turns, arguments)
        assert found.phase_behind(prompt) == phase
    # As DeepSeek-R1's distils open it.
    assert found.phase_behind([*prompt[:-4], *tokenizer.encode("<think>\n")]) == Phase.INSIDE
