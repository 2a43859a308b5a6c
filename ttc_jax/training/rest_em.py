"""ReST^EM for revisions: a model finetuned on its own chains that got there (paper §2).

The paper's variant samples 64 trajectories a question, of up to 5 answers, stopped at the first
correct one, balances their lengths and finetunes the base model on all of each trajectory. It found
that this makes sequential revisions worse: the model learns from what happened to stand before a
correct answer, not from what helped to find it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_jax.results.store import Candidate
from ttc_jax.tasks.prompts import EARLIER
from ttc_jax.training import sft
from ttc_jax.training.data import Collected, Examples

LONGEST = EARLIER + 1  # answers of a trajectory


def examples(collected: Sequence[Collected], *, per_length: int, seed: int) -> Examples:
    """Chains up to their first correct answer; all answers are asked for, their ends included.

    Args:
      per_length: trajectories of each number of answers at most, which balances the lengths as far
        as there are long ones.
      seed: of the choice among them.
    """
    by_length: dict[int, list[tuple[Collected, Sequence[Candidate]]]] = {}
    for of_question in collected:
        for chain in of_question.chains:
            if trajectory := up_to_correct(chain):
                by_length.setdefault(len(trajectory), []).append((of_question, trajectory))
    found: Examples = {}
    for length, rows in sorted(by_length.items()):
        order = np.random.default_rng((seed, length)).permutation(len(rows))
        for i in np.sort(order[:per_length]):
            of_question, trajectory = rows[i]
            answers = [answer.tokens for answer in trajectory]
            row = sft.example(of_question.prompt, answers, of_question.between)
            found.setdefault(of_question.question, []).append(row)
    return found


def up_to_correct(chain: Sequence[Candidate]) -> Sequence[Candidate]:
    """The chain up to its first correct answer.

    Nothing, where none of the first `LONGEST` is correct or one up to there was cut off.
    """
    for place, answer in enumerate(chain[:LONGEST]):
        if not answer.finished:
            break
        if answer.correct:
            return chain[: place + 1]
    return ()
