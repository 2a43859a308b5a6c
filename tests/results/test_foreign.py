"""Samples scored elsewhere: out to JSON lines and back, and every way to write them wrong."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.policy import difficulty
from ttc_jax.results import foreign
from ttc_jax.results.accuracy_table import accuracy_table
from ttc_jax.results.curves import default_rules
from ttc_jax.results.foreign import read_records, read_samples
from ttc_jax.results.store import Candidate, Record, ResultsStore

LINE = {"question": "q", "answer": "42", "correct": True, "score": 0.5, "tokens": 7}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def changed(*left_out: str, **fields: object) -> dict[str, object]:
    return {name: x for name, x in {**LINE, **fields}.items() if name not in left_out}


def exported(record: Record) -> list[dict[str, object]]:
    return [
        {
            "question": record.question,
            "strategy": record.strategy,
            "budget": record.budget,
            "seed": record.seed,
            "answer": candidate.answer,
            "correct": candidate.correct,
            "step_scores": candidate.step_scores,
            "tokens": len(candidate.tokens),
            "text": candidate.text,
            "log_prob": candidate.log_prob,
        }
        for candidate in record.candidates
    ]


def made(question: int, strategy: str, n: int, seed: int) -> Record:
    rng = np.random.default_rng([question, n, seed, len(strategy)])
    drawn = rng.integers(0, 5, n).tolist()
    candidates = tuple(
        Candidate(
            tokens=(1,) * int(rng.integers(1, 9)),
            text="a line\n",
            finished=True,
            log_prob=float(-rng.random()),
            step_scores=tuple(rng.random(1 + answer).tolist()),
            answer=None if answer == 4 else str(answer),
            correct=answer == question % 3,
        )
        for answer in drawn
    )
    cost = Ledger(generations=n, decode_tokens=sum(len(x.tokens) for x in candidates))
    return Record(f"q/{question}", strategy, n, seed, candidates, cost)


def test_records_written_and_read_give_the_same_outcomes(tmp_path):
    cells = [("best_of_n", 8), ("beam", 4), ("beam", 8)]
    records = [made(q, *cell, seed) for q in range(6) for cell in cells for seed in (0, 1)]
    lines = [row for record in records for row in exported(record)]
    places = np.random.default_rng(0).permutation(len(records))
    back = read_records(write(tmp_path, *lines))
    options = {"pools": ("best_of_n",), "subsets": 16}
    ours, theirs = (accuracy_table(x, (4, 8), **options) for x in (records, back))
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert (ours.questions, ours.strategies) == (theirs.questions, theirs.strategies)
    assert (ours.budgets, ours.seeds) == (theirs.budgets, theirs.seeds)
    assert [record.ledger for record in back] == [record.ledger for record in records]
    for measure in (difficulty.oracle, difficulty.predicted):
        assert measure(records) == measure(back)

    shuffled = [row for place in places.tolist() for row in exported(records[place])]
    again = {record.key: record for record in read_samples(write(tmp_path, *shuffled))}
    assert [again[record.key] for record in back] == back

    store = ResultsStore(tmp_path / "workdir")
    store.append(back)
    assert read_records(tmp_path / "workdir") == back


def test_what_may_be_left_out(tmp_path):
    lines = [changed("correct", gold=gold) for gold in ("42", "42.0")]
    [record] = read_samples(write(tmp_path, *lines, changed(answer=None, correct=False)))
    assert record.key == ("q", "best_of_n", 3, 0)
    assert record.ledger == Ledger(generations=3, decode_tokens=21)
    assert [c.correct for c in record.candidates] == [True, False, False]
    assert [c.answer for c in record.candidates] == ["42", "42", None]
    assert record.candidates[0] == Candidate((), "", True, 0.0, (0.5,), "42", True, token_count=7)
    path = write(tmp_path, changed(score=1))
    path.write_bytes(b"\n" + path.read_bytes()[:-1])  # a blank line, and no last line end
    assert read_samples(path)[0].candidates[0].step_scores == (1.0,)


def test_without_answers_the_highest_score_wins_and_without_scores_the_majority(tmp_path):
    rows = [(True, 0.2), (True, 0.3), (False, 0.4)]
    lines = [changed("answer", correct=right, score=score) for right, score in rows]
    records = read_samples(write(tmp_path, *lines))
    assert accuracy_table(records, [3], pools=["best_of_n"]).values.item() == 0
    lines = [changed("score", answer=a, correct=a == "1", step_scores=[]) for a in "121"]
    records = read_samples(write(tmp_path, *lines))
    assert default_rules(records) == ("majority", "pass")
    assert accuracy_table(records, [3], pools=["best_of_n"], rule="majority").values.item() == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "not an object"),
        (changed("question"), "'question' is missing"),
        (changed("tokens"), "'tokens' is missing"),
        (changed(reward=1), "field 'reward' is unknown; choose answer, budget, correct"),
        (changed(question=7), 'question is 7; it must be text, as "42"'),
        (changed(answer=42), "answer is 42; it must be text"),
        (changed("correct", gold=42), "gold is 42"),
        (changed(text=None), "text is None"),
        (changed(strategy=1), "strategy is 1"),
        (changed(strategy=""), 'strategy is ""; name the strategy'),
        (changed(question=""), 'question is ""; name the question'),
        (changed("correct"), "give 'correct', or 'answer' and 'gold'"),
        (changed("correct", "answer", gold="42"), "give 'correct', or 'answer' and 'gold'"),
        (changed(correct=1), "correct is 1; it must be true or false"),
        (changed(answer=None), "correct without an answer"),
        (changed("score"), "either 'score' or 'step_scores'"),
        (changed(step_scores=[0.5]), "either 'score' or 'step_scores'"),
        (changed("score", step_scores=0.5), "step_scores must be a list"),
        (changed("score", step_scores=[0.5, None]), "a score is None"),
        (changed(score=True), "a score is True"),
        (changed(score="0.5"), "a score is '0.5'"),
        (changed(score=math.nan), "a score is nan; bring scores to [0, 1]"),
        (changed(score=-0.1), "a score is -0.1"),
        (changed(score=1.1), "a score is 1.1"),
        (changed(tokens=-1), "tokens is -1; it must be at least 0"),
        (changed(tokens=[1, 2]), "tokens is [1, 2]; it must be an integer"),
        (changed(tokens=True), "tokens is True"),
        (changed(seed=0.5), "seed is 0.5"),
        (changed(budget=0), "budget is 0; it must be at least 1"),
        (changed(log_prob=math.inf), "log_prob is inf"),
        (changed(log_prob=10**400), "it must be a finite number"),
        (changed(tokens=10**400), "tokens is 10000000000000000000… (401 characters); it must be"),
        (changed(tokens=2**63), "tokens is 9223372036854775808; it must be an integer of 64 bits"),
        (changed(seed=10**20), "seed is 100000000000000000000; it must be an integer of 64 bits"),
        (changed(seed=-(10**20)), "seed is -100000000000000000000; it must be"),
        (changed(budget=10**30), "it must be an integer of 64 bits"),
        (changed(sequential=10**30), "it must be an integer of 64 bits"),
        (changed(cost={"decode_tokens": 10**400}), "cost: decode_tokens is 1000"),
        (changed("answer"), "'answer' is named on some lines and not on others"),
        (changed("score", step_scores=[]), "'q' has 2 samples of 'best_of_n', seed 0, and 'p' has"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, line, message):
    path = write(tmp_path, changed(question="p"), LINE, line)
    with pytest.raises(UserError) as caught:
        read_samples(path)
    error = str(caught.value)
    assert message in error
    assert error.startswith(f"{path}:3: ")
    assert "\n" not in error


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"question": "q"', b"NaN"])
def test_a_line_that_is_no_json(tmp_path, line):
    path = write(tmp_path, LINE)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UserError, match=r"samples\.jsonl:2: ") as caught:
        read_samples(path)
    assert "\n" not in str(caught.value)


def test_budgets_that_the_samples_contradict(tmp_path):
    path = write(tmp_path, changed(budget=1), changed(budget=1))
    with pytest.raises(UserError, match="jsonl:2: 'q' has 2 samples of 'best_of_n' at budget 1"):
        read_samples(path)
    path = write(tmp_path, LINE, changed(budget=1))
    with pytest.raises(UserError, match="jsonl:2: .*; name it on all lines or on none"):
        read_samples(path)
    assert read_samples(write(tmp_path, changed(budget=9)))[0].budget == 9  # as of lookahead


def test_files_that_hold_no_samples(tmp_path):
    with pytest.raises(UserError, match="none.jsonl: No such file"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="samples.jsonl: holds no samples"):
        read_records(write(tmp_path))
    (tmp_path / "samples.csv").touch()
    with pytest.raises(UserError, match="samples.csv: neither a workdir nor a .jsonl or"):
        read_records(tmp_path / "samples.csv")
    assert read_records(tmp_path) == []  # a workdir in which nothing was stored yet


def test_the_example_in_the_documentation_is_right(tmp_path):
    lines = [line.strip() for line in (foreign.__doc__ or "").splitlines() if '{"' in line][:2]
    path = tmp_path / "example.jsonl"
    path.write_text("\n".join(lines))
    [record] = read_samples(path)
    assert [candidate.correct for candidate in record.candidates] == [True, False]


numbers = st.floats(0, 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


@given(
    question=names,
    answer=texts | st.none(),
    scores=st.lists(numbers, max_size=4),
    tokens=st.integers(0, 10**9),
    seed=st.integers(-9, 9),
)
def test_any_text_and_score_comes_back(tmp_path_factory, question, answer, scores, tokens, seed):
    line = changed("score", question=question, answer=answer, step_scores=scores, tokens=tokens)
    line |= {"seed": seed, "correct": answer is not None}
    [record] = read_samples(write(tmp_path_factory.mktemp("any"), line))
    assert (record.question, record.seed) == (question, seed)
    assert record.ledger.decode_tokens == tokens
    assert record.candidates[0].answer == answer
    assert record.candidates[0].step_scores == tuple(scores)
