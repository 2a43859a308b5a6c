"""Teaching an ORM: a PRM's network, asked once an answer whether its final answer is correct.

On chains of revisions the earlier answers are in its prompt: that is the paper's verifier for
revisions (paper §2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_jax.training import prm
from ttc_jax.training.data import Collected, Examples


def examples(collected: Sequence[Collected], delimiters: np.ndarray) -> Examples:
    """Each answer, with its correctness asked for where its last step ends.

    Answers without a final answer are left out.

    Args:
      delimiters: [V] tokens that end a step.
    """
    found: Examples = {}
    for of_question in collected:
        for prompt, answer, ends in of_question.answers(delimiters):
            row = prm.example(prompt, answer.tokens, ends[-1:], [float(answer.correct)])
            found.setdefault(of_question.question, []).append(row)
    return found
