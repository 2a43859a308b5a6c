"""The question as the models read it, and the sizes and limits that it is searched with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ttc_jax.compute.ledger import Ledger
from ttc_jax.sampling.draw import RowSampling, SamplingParams
from ttc_jax.search.state import OwnLimits


class Limits(NamedTuple):
    """The longest answer to a question, and how its tokens are drawn, where the plan says neither.

    They are data: other limits compile nothing.
    """

    tokens: int
    sampling: SamplingParams = SamplingParams()


class Request(NamedTuple):
    """A question as the models read it."""

    prompt: Sequence[int]  # what the generator reads
    shown: Sequence[int]  # what the verifier reads in its place, or the text's code points
    question_id: int  # uint32 that its draws are keyed by
    seed: int = 0  # uint32, the same
    thought: tuple[int, int, int] = (0, 0, 0)  # `Thinking.given`, of a model that thinks
    limits: Limits | None = None  # its own, where the plan leaves them to the questions
    costs: list[Ledger] | None = None  # of a verifier of texts, added while it is searched


class PromptBuckets(NamedTuple):
    """The sizes to which prompts are padded before a question is searched: one compilation each."""

    prompt: int  # tokens of the generator's
    shown: int  # tokens of the verifier's
    shares_prefix: bool = False  # whether the prompts stand behind the shared prefix


def own_limits(limits: Sequence[Limits | None]) -> OwnLimits:
    """Returns the limits of questions as arrays; None: of one that has none."""
    given = [one or Limits(1) for one in limits]

    def column(values: Iterable[float], dtype: type) -> Any:
        return np.array([*values], dtype)

    return OwnLimits(
        column((one.tokens for one in given), np.int32),
        RowSampling(
            column((one.sampling.temperature for one in given), np.float32),
            column((one.sampling.top_k for one in given), np.int32),
            column((one.sampling.top_p for one in given), np.float32),
        ),
    )
