"""Pairs that teach a model to revise."""

from collections import Counter

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from tests.training.toy import END, TOKENIZER, candidate, collected
from ttc_jax.errors import UserError
from ttc_jax.results.store import Candidate
from ttc_jax.tasks.prompts import EARLIER
from ttc_jax.tasks.task import Question
from ttc_jax.training.batches import Example
from ttc_jax.training.revision import earlier, examples

ASKED = Question("t/0", "01 01=02:", "02")
PROMPT = TOKENIZER.encode(ASKED.text)


def answer(steps: str, result: str, finished: bool = True) -> Candidate:
    return candidate(f"{steps}\\boxed{{{result}}}", ASKED.answer, finished=finished)


samples = st.builds(
    answer, st.text("12=\n", max_size=6), st.sampled_from(["02", "03", "13", "2"]), st.booleans()
)


def read(example: Example) -> tuple[list[str], str]:
    """The earlier answers in the prompt, and the one that is asked for."""
    context = example.tokens[: example.prompt_length].tolist()
    assert context[: len(PROMPT)] == PROMPT
    texts, before = [], context[len(PROMPT) :]
    while before:
        end = before.index(END)
        texts.append(TOKENIZER.decode(before[:end]))
        before = before[end + 1 :]
    at = np.flatnonzero(example.weights)
    assert at.tolist() == list(range(example.prompt_length - 1, len(example.tokens)))
    asked = example.targets[at].astype(int).tolist()
    assert asked[-1] == END
    assert asked[:-1] == example.tokens[example.prompt_length :].tolist()
    return texts, TOKENIZER.decode(asked)


@hypothesis.given(st.lists(samples, max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_every_pair_is_wrong_answers_and_then_a_correct_one(found, per_question, seed):
    of_question = collected(ASKED, *[[sample] for sample in found])
    rows = examples([of_question], per_question=per_question, kept=0.0, seed=seed).get("t/0", [])
    correct = [x.text for x in found if x.correct and x.finished]
    wrong = [x.text for x in found if x.answer is not None and not x.correct]
    assert len(rows) == min(per_question, len(correct))
    assert not Counter(read(row)[1] for row in rows) - Counter(correct)
    for row in rows:
        before, asked = read(row)
        assert len(before) <= min(EARLIER, len(wrong))
        assert not Counter(before) - Counter(wrong)  # none comes more often than it was sampled
        if before:
            distances = [Levenshtein.distance(asked, text) for text in wrong]
            assert Levenshtein.distance(asked, before[-1]) == min(distances)


@pytest.mark.parametrize("kept", [0.0, 0.25, 1.0])
def test_a_share_of_the_pairs_repeats_a_correct_answer(kept):
    chains = [[answer(f"{i}=", "02" if i % 2 else "03")] for i in range(20)]
    asked = [collected(Question(f"t/{i}", ASKED.text, "02"), *chains) for i in range(100)]
    found = examples(asked, per_question=10, kept=kept, seed=0)
    rows = [read(row) for of_question in found.values() for row in of_question]
    repeats = Counter(before.count(text) for before, text in rows)
    assert len(rows) == 1000
    assert abs(1 - repeats[0] / 1000 - kept) <= 0.03
    for before, text in rows:
        assert len(before) <= EARLIER
        assert set(before[len(before) - before.count(text) :]) <= {text}  # the last ones
    if kept:
        assert set(repeats) - {0} == set(range(1, EARLIER + 1))


def test_the_number_of_wrong_answers_is_uniform_and_the_others_are_any():
    wrong = [answer(f"{i}=", "03") for i in range(10, 18)]
    correct, close = answer("21=", "02"), answer("21=", "03")
    rng = np.random.default_rng(0)
    drawn = [earlier(correct, [*wrong, close], rng) for _ in range(2000)]
    counts = Counter(map(len, drawn))
    assert set(counts) == set(range(EARLIER + 1))
    assert max(counts.values()) < 1.2 * min(counts.values())
    assert all(found[-1] is close for found in drawn if found)
    others = Counter(x.text for found in drawn for x in found[:-1])
    assert set(others) == {x.text for x in wrong}
    assert max(others.values()) < 1.3 * min(others.values())


def test_the_seed_decides_and_other_questions_do_not():
    chains = [[answer(f"{i}=", "02" if i % 2 else "03")] for i in range(20)]
    one, other = collected(ASKED, *chains), collected(Question("t/1", "02=02:", "02"), *chains)

    def texts(*of_questions, seed=0):
        rows = examples(of_questions, per_question=5, kept=0.25, seed=seed)["t/0"]
        return [row.tokens.tolist() for row in rows]

    assert texts(one) == texts(other, one)
    assert texts(one) != texts(one, seed=1)


def test_chains_are_refused():
    chain = [answer("", "03"), answer("", "02")]
    with pytest.raises(UserError, match="'t/0' were written in chains; pairs are built from"):
        examples([collected(ASKED, chain)], per_question=1, kept=0.0, seed=0)
