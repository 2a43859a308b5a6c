"""The texts that a model wrote behind a prompt: whole, or piece by piece."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from ttc_jax.compute.ledger import Ledger


@dataclasses.dataclass(frozen=True)
class Completion:
    """A text that the model wrote behind a prompt.

    Attributes:
      text: without special tokens, up to the stop text; of a model that thinks, behind its thought.
      token_ids: all that was drawn for it, the end token included.
      log_prob: nats, of all tokens under the model itself (temperature 1, nothing truncated).
      log_probs: the same of each token; None where they were not asked for.
      top_log_probs: for each token the ids of the likeliest in its place with theirs, the likeliest
        first; () unless asked for.
      finish_reason: "stop" at an end token or a stop text, "length" at the limit of tokens,
        "deadline" where time ran out.
      step_scores: the verifier's, one a step; () without a verifier.
      reasoning: text of the thought, marks included where they have text; "" without one.
    """

    text: str
    token_ids: tuple[int, ...]
    log_prob: float
    log_probs: tuple[float, ...] | None
    finish_reason: Literal["stop", "length", "deadline"]
    step_scores: tuple[float, ...]
    reasoning: str = ""
    top_log_probs: tuple[Sequence[tuple[int, float]], ...] = ()


@dataclasses.dataclass(frozen=True)
class Output:
    """The completions of a prompt.

    Attributes:
      prompt_token_ids: what the model read.
      completions: n of them.
      ledger: tokens and FLOPs that they cost.
    """

    prompt_token_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    ledger: Ledger

    @property
    def text(self) -> str:
        """The text of the first completion."""
        return self.completions[0].text


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of a text that is being written.

    Attributes:
      text: goes on behind the earlier pieces of its completion.
      completion: its number, 0 to n - 1.
      output: all of it, in the last piece, which has no text; else None.
    """

    text: str
    completion: int = 0
    output: Output | None = None
