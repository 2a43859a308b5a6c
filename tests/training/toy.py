"""Answers of the embedded task as a collection would hold them, written by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.models.characters import CharTokenizer
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.results.store import Candidate, Record
from ttc_jax.tasks.countdown import PIECES
from ttc_jax.tasks.extraction import boxed
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.training.data import Collected

TOKENIZER = CharTokenizer(PIECES)
[END] = TOKENIZER.eos_ids
PROMPT = PromptFormat()
DELIMITER = Delimiter.of(TOKENIZER, "\n")


def candidate(
    text: str, gold: str | None = "", values: Sequence[float] = (), *, finished: bool = True
) -> Candidate:
    answer = boxed(text)
    return Candidate(
        tokens=(*TOKENIZER.encode(text), *([END] if finished else [])),
        text=text,
        finished=finished,
        log_prob=-1.0,
        step_scores=(),
        answer=answer,
        correct=answer == gold,
        step_values=tuple(values),
    )


def solution(question: Question, error: int | None = None) -> Candidate:
    """The worked solution with its values; from line `error` on each has a number off by one."""
    lines = question.solution.split("\n")
    if error is None:
        return candidate(question.solution, boxed(question.solution), [1.0] * len(lines))
    for i in range(error, len(lines)):
        at = lines[i].rindex("=") + 1 if "=" in lines[i] else len("\\boxed{")
        wrong = (int(lines[i][at : at + 2]) + 1) % 100
        lines[i] = f"{lines[i][:at]}{wrong:02}{lines[i][at + 2 :]}"
    values = [1.0] * error + [0.0] * (len(lines) - error)
    return candidate("\n".join(lines), boxed(question.solution), values)


def record(
    question: str, candidates: Sequence[Candidate], sequential: int = 1, seed: int = 0
) -> Record:
    return Record(
        question=question,
        strategy="best_of_n",
        budget=len(candidates),
        seed=seed,
        candidates=tuple(candidates),
        ledger=Ledger(generations=len(candidates)),
        sequential=sequential,
    )


def sampled(question: Question, seed: int = 0, sequential: int = 1, n: int = 4) -> Record:
    """`n` answers, of which about half are correct; a chain's later ones are so more often."""
    rng = np.random.default_rng([seed, *question.id.encode()])
    lines = question.solution.count("\n") + 1
    found = []
    for i in range(n):
        right = rng.random() < (0.5 if sequential == 1 else 0.3 + 0.1 * (i % sequential))
        found.append(solution(question, None if right else int(rng.integers(lines))))
    return record(question.id, found, sequential, seed)


def collected(question: Question, *chains: Sequence[Candidate]) -> Collected:
    return Collected(
        question.id,
        PROMPT.encode(question.text, TOKENIZER),
        chains,
        PROMPT.between(TOKENIZER),
        TOKENIZER.eos_ids,
    )
