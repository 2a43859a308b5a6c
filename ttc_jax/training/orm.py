"""Teaching an ORM: a PRM's network, asked once an answer whether its final answer is correct.

On chains of revisions the earlier answers are in its prompt: that is the paper's verifier for
revisions (paper §2).
"""

from __future__ import annotations

from collections.abc import Sequence

from ttc_jax.models.delimiters import Delimiter
from ttc_jax.training import prm
from ttc_jax.training.data import Collected, Examples


def examples(
    collected: Sequence[Collected], delimiter: Delimiter, *, every_step: bool = False
) -> Examples:
    """Each answer, with its correctness asked for where its last step ends.

    Answers without a final answer are left out.

    Args:
      delimiter: ends steps.
      every_step: asks at the ends of all steps, each of which the answer is the one rollout from;
        and at the end of the prompt for the share of the question's answers that are correct.
    """
    found: Examples = {}
    for of_question in collected:
        for prompt, answer, ends in of_question.answers(delimiter):
            outcome = float(answer.correct)
            at, values = list(ends[-1:]), [outcome]
            if every_step:
                at, values = [-1, *ends], [of_question.pass_at_1, *[outcome] * len(ends)]
            row = prm.example(prompt, answer.tokens, at, values)
            found.setdefault(of_question.question, []).append(row)
    return found
