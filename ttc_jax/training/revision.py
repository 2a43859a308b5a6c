"""Pairs that teach a model to revise: wrong answers, and then a correct one (paper §2 and §6.1).

They are built from parallel samples, since no model that revises is there to begin with. A model
that has only seen wrong answers before its own turns correct ones wrong (38 % of them in the
paper). Some pairs may therefore teach it to repeat an answer that is already correct.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from ttc_jax import hashing
from ttc_jax.errors import UserError
from ttc_jax.results.store import Candidate
from ttc_jax.tasks.prompts import EARLIER
from ttc_jax.training import sft
from ttc_jax.training.data import Collected, Examples


def examples(
    collected: Sequence[Collected], *, per_question: int, kept: float, seed: int
) -> Examples:
    """Each correct answer behind `earlier` wrong ones; it alone is asked for, its end included.

    Args:
      per_question: pairs of a question at most, so that easy questions do not dominate.
      kept: share of the pairs whose answer is already there when the model is asked for it, last
        among the earlier ones. The paper has none.
      seed: of the draws, which depend on nothing but it and the question's own answers.

    Raises:
      UserError: answers that were written in chains.
    """
    found: Examples = {}
    for of_question in collected:
        if any(len(chain) > 1 for chain in of_question.chains):
            raise UserError(
                f"data.path: the answers to {of_question.question!r} were written in chains; "
                "pairs are built from parallel samples, collected with sequential=1"
            )
        samples = [chain[0] for chain in of_question.chains if chain[0].answer is not None]
        wrong = [sample for sample in samples if not sample.correct]
        correct = [sample for sample in samples if sample.correct and sample.finished]
        rng = np.random.default_rng((seed, hashing.number_of(of_question.question)))
        for i in np.sort(rng.permutation(len(correct))[:per_question]):
            before = earlier(correct[i], wrong, rng)
            if rng.random() < kept:
                before = repeated(correct[i], before, rng)
            context = of_question.context(before)
            row = sft.example(context, [correct[i].tokens])
            found.setdefault(of_question.question, []).append(row)
    return found


def earlier(
    correct: Candidate, wrong: Sequence[Candidate], rng: np.random.Generator
) -> list[Candidate]:
    """Wrong answers to stand before a correct one, 0 to `EARLIER` of them with equal chance.

    The last is the one closest to the correct answer in character edit distance, so that there is
    something to learn from it; the others are any. Where there are fewer, all of them come.
    """
    count = min(int(rng.integers(EARLIER + 1)), len(wrong))
    if not count:
        return []
    distances = [Levenshtein.distance(correct.text, answer.text) for answer in wrong]
    closest = int(np.argmin(distances))
    others = rng.permutation(np.delete(np.arange(len(wrong)), closest))[: count - 1].tolist()
    return [wrong[i] for i in (*others, closest)]


def repeated(
    correct: Candidate, before: Sequence[Candidate], rng: np.random.Generator
) -> list[Candidate]:
    """Earlier answers that end in the correct one, which stands there 1 to `EARLIER` times."""
    times = int(rng.integers(1, EARLIER + 1))
    return [*before[: EARLIER - times], *[correct] * times]
